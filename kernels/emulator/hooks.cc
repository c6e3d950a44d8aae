// What the compiler calls at every load and store of a kernel: kernels are compiled with
// -fsanitize=thread, whose run-time library is not linked; these functions are in its place.
#include <cstddef>

#include "kernels/emulator/machine.h"

namespace {

using penstock::emulator::Machine;

void Hook(const void* address, size_t bytes, Machine::Use use, const void* code) {
  if (!penstock::emulator::runs_kernel) return;
  Machine& machine = Machine::Get();
  const auto* thread = machine.current();
  if (thread == nullptr) return;  // a function that the linker shares with the host's code
  machine.Guard([&] { machine.Check(thread->index, address, bytes, use, {{}, code}); });
}

}  // namespace

#define PENSTOCK_HOOK(bytes)                                                 \
  void __tsan_read##bytes(void* address) {                                   \
    Hook(address, bytes, Machine::Use::kRead, __builtin_return_address(0));  \
  }                                                                          \
  void __tsan_write##bytes(void* address) {                                  \
    Hook(address, bytes, Machine::Use::kWrite, __builtin_return_address(0)); \
  }                                                                          \
  void __tsan_volatile_read##bytes(void* address) {                          \
    Hook(address, bytes, Machine::Use::kRead, __builtin_return_address(0));  \
  }                                                                          \
  void __tsan_volatile_write##bytes(void* address) {                         \
    Hook(address, bytes, Machine::Use::kWrite, __builtin_return_address(0)); \
  }

extern "C" {
PENSTOCK_HOOK(1)
PENSTOCK_HOOK(2)
PENSTOCK_HOOK(4)
PENSTOCK_HOOK(8)
PENSTOCK_HOOK(16)
void __tsan_read_range(void* address, size_t bytes) {
  Hook(address, bytes, Machine::Use::kRead, __builtin_return_address(0));
}
void __tsan_write_range(void* address, size_t bytes) {
  Hook(address, bytes, Machine::Use::kWrite, __builtin_return_address(0));
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
}
