#include "kernels/emulator/fiber.h"

#include <sys/mman.h>

#include <boost/context/detail/fcontext.hpp>
#include <cstdlib>

#include "base/sanitizers.h"

#ifdef PENSTOCK_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace penstock::emulator {
namespace {

// Boost.Context's own support of AddressSanitizer needs a library built for it, which Debian's is
// not; its assembly is the same either way, so the switches are announced here.
void AnnounceSwitch([[maybe_unused]] void** fake_stack, [[maybe_unused]] const void* bottom,
                    [[maybe_unused]] size_t bytes) {
#ifdef PENSTOCK_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(fake_stack, bottom, bytes);
#endif
}

void ConfirmSwitch([[maybe_unused]] void* fake_stack, [[maybe_unused]] const void** from_bottom,
                   [[maybe_unused]] size_t* from_bytes) {
#ifdef PENSTOCK_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(fake_stack, from_bottom, from_bytes);
#endif
}

}  // namespace

struct Fiber::Entry {
  static void Run(boost::context::detail::transfer_t from) {
    auto* self = static_cast<Fiber*>(from.data);
    self->host_ = from.fctx;
    ConfirmSwitch(nullptr, &self->host_bottom_, &self->host_bytes_);
    self->entry_(self->argument_);
    std::abort();
  }
};

Fiber::Fiber() {
  mapping_ = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping_ == MAP_FAILED || mprotect(mapping_, kGuardBytes, PROT_NONE) != 0) std::abort();
  stack_begin_ = reinterpret_cast<uintptr_t>(mapping_) + kGuardBytes;
}

Fiber::~Fiber() { munmap(mapping_, kGuardBytes + kStackBytes); }

void Fiber::Start(void (*entry)(void*), void* argument) {
#ifdef PENSTOCK_ADDRESS_SANITIZER
  ASAN_UNPOISON_MEMORY_REGION(reinterpret_cast<void*>(stack_begin_), kStackBytes);
#endif
  entry_ = entry;
  argument_ = argument;
  fake_stack_ = nullptr;
  context_ = boost::context::detail::make_fcontext(
      reinterpret_cast<void*>(stack_begin_ + kStackBytes), kStackBytes, &Entry::Run);
}

void Fiber::Resume() {
  void* fake_stack = nullptr;
  AnnounceSwitch(&fake_stack, reinterpret_cast<void*>(stack_begin_), kStackBytes);
  const auto from = boost::context::detail::jump_fcontext(context_, this);
  ConfirmSwitch(fake_stack, nullptr, nullptr);
  context_ = from.fctx;
}

void Fiber::SwitchOut(bool forever) {
  AnnounceSwitch(forever ? nullptr : &fake_stack_, host_bottom_, host_bytes_);
  const auto from = boost::context::detail::jump_fcontext(host_, nullptr);
  ConfirmSwitch(fake_stack_, &host_bottom_, &host_bytes_);
  host_ = from.fctx;
}

}  // namespace penstock::emulator
