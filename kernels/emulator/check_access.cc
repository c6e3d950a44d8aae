// Whether a thread may read or write where it does.
#include <cstdlib>
#include <cstring>

#include "kernels/emulator/machine.h"

#if defined(PENSTOCK_HAVE_BACKTRACE)
#include <backtrace.h>
#endif

extern "C" {
extern char __executable_start;  // of the program, by the linker
extern char end;
}

namespace penstock::emulator {
namespace {

const char* NameOf(Machine::Use use) {
  switch (use) {
    case Machine::Use::kRead:
      return "reads";
    case Machine::Use::kWrite:
      return "writes";
    case Machine::Use::kAtomic:
      return "changes";
  }
  return "";
}

std::string Accessing(Machine::Use use, size_t bytes) {
  return std::string(NameOf(use)) + " " + std::to_string(bytes) + " bytes";
}

}  // namespace

std::string Describe(const Place& place) {
  if (place.code == nullptr) {
    return std::string(place.where.file_name()) + ":" + std::to_string(place.where.line());
  }
  std::string found;
#if defined(PENSTOCK_HAVE_BACKTRACE)
  const auto ignore = [](void*, const char*, int) {};
  static backtrace_state* const state = backtrace_create_state(nullptr, 0, ignore, nullptr);
  backtrace_pcinfo(
      state, reinterpret_cast<uintptr_t>(place.code) - 1,
      [](void* text, uintptr_t, const char* file, int line, const char*) {
        // Inlined calls come one by one, the innermost first: the kernel's line is what is wanted.
        if (file == nullptr || std::strstr(file, "kernels/emulator/") != nullptr) return 0;
        *static_cast<std::string*>(text) = std::string(file) + ":" + std::to_string(line);
        return 1;
      },
      ignore, &found);
#endif
  return found.empty() ? "an unknown line" : found;
}

bool Machine::IsConstant(uintptr_t address, size_t bytes) const {
  const auto begin = reinterpret_cast<uintptr_t>(&__executable_start);
  const auto size = reinterpret_cast<uintptr_t>(&::end) - begin;
  return (address - begin < size && bytes <= size) ||
         (address - parameters_ < parameter_bytes_ && bytes <= parameter_bytes_);
}

void Machine::Check(int thread, const void* address, size_t bytes, Use use, const Place& place) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  if (current_->fiber.Holds(at)) return;
  if (use == Use::kRead && IsConstant(at, bytes)) return;
  if (bytes <= 16 && (bytes & (bytes - 1)) == 0 && at % bytes != 0) {
    Fail(Accessing(use, bytes) + " at a misaligned address (" + std::to_string(at % bytes) +
             " behind a multiple of " + std::to_string(bytes) + ")",
         place);
  }
  if (shared_->Holds(at)) return CheckShared(thread, address, bytes, use, place);
  const Buffer* buffer = global.Find(at);
  if (buffer == nullptr) FailOutside(address, bytes, use, place);
  CheckGlobal(*buffer, thread, address, bytes, use, place);
}

void Machine::CheckShared(int thread, const void* address, size_t bytes, Use use,
                          const Place& place) {
  const size_t begin = shared_->Offset(address);
  const uint32_t epoch = clocks_.now[thread / 32];
  SharedRecord harmless;  // the last that was looked at: neighbouring bytes mostly have the same
  for (size_t i = begin; i < begin + bytes; ++i) {
    if (i >= shared_->bytes_of_arena() || shared_->state(i) == ByteState::kOutside) {
      Fail(Accessing(use, bytes) + " out of bounds of a shared array", place);
    }
    if (shared_->state(i) == ByteState::kInFlight) {
      Fail(Accessing(use, bytes) + " of shared memory that a cp.async has in flight", place);
    }
    SharedMemory::Known& known = shared_->known(i);
    const auto conflicts = [&](const SharedRecord& r) {
      if (r.epoch == harmless.epoch && r.thread == harmless.thread) return false;
      const bool does = r.epoch != 0 && !clocks_.IsBefore(r.thread, r.epoch, thread);
      if (!does) harmless = r;
      return does;
    };
    const auto race = [&](const char* did, const SharedRecord& r) {
      Fail(Accessing(use, bytes) + " of shared memory that thread " + std::to_string(r.thread) +
               " " + did + " without a barrier in between",
           place);
    };
    if (use != Use::kAtomic && conflicts(known.write)) race("wrote", known.write);
    if (use == Use::kRead) {
      if (shared_->state(i) == ByteState::kPoison) {
        Fail(Accessing(use, bytes) + " of shared memory that nothing was written to", place);
      }
      if (known.reads[0].thread != thread) known.reads[1] = known.reads[0];
      known.reads[0] = {epoch, thread};
      continue;
    }
    for (const SharedRecord& read : known.reads) {
      if (use == Use::kWrite && conflicts(read)) race("read", read);
    }
    if (use == Use::kAtomic && shared_->state(i) == ByteState::kPoison) {
      Fail(Accessing(use, bytes) + " of shared memory that nothing was written to", place);
    }
    known.write = {epoch, thread};
    shared_->state(i) = ByteState::kWritten;
  }
}

void Machine::CheckGlobal(const Buffer& buffer, int thread, const void* address, size_t bytes,
                          Use use, const Place& place) {
  const size_t begin = static_cast<size_t>(static_cast<const std::byte*>(address) - buffer.data);
  if (begin + bytes > buffer.bytes) FailOutside(address, bytes, use, place);
  const bool sees = current_->sees_kernels_before;
  if (use != Use::kRead && !sees) {
    Fail(Accessing(use, bytes) + " of global memory before PdlWait", place);
  }
  for (size_t i = begin; i < begin + bytes; ++i) {
    if (use != Use::kWrite && buffer.states[i] == ByteState::kPoison) {
      Fail(Accessing(use, bytes) + " of global memory that nothing was written to", place);
    }
    const GlobalRecord& write = buffer.writes[i];
    if (write.launch == launch_) {
      const bool both_atomic = use == Use::kAtomic && write.atomic != 0;
      if (write.block == block_) {
        if (!both_atomic && !clocks_.IsBefore(write.thread, write.epoch, thread)) {
          Fail(Accessing(use, bytes) + " of global memory that thread " +
                   std::to_string(write.thread) + " wrote without a barrier in between",
               place);
        }
      } else if (!both_atomic && !block_synchronised_) {
        Fail(Accessing(use, bytes) + " of global memory that another block of the grid wrote",
             place);
      }
    } else if (!sees && write.launch > settled_) {
      Fail(Accessing(use, bytes) + " that the kernel before, " +
               names_[write.launch - settled_ - 1] + ", wrote, before PdlWait",
           place);
    }
    if (use == Use::kRead) continue;
    buffer.states[i] = ByteState::kWritten;
    buffer.writes[i] = {launch_, block_, clocks_.now[thread / 32], static_cast<uint16_t>(thread),
                        static_cast<uint16_t>(use == Use::kAtomic)};
  }
  if (use == Use::kAtomic) block_synchronised_ = true;
}

void Machine::FailOutside(const void* address, size_t bytes, Use use, const Place& place) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  const Buffer* nearest = global.Nearest(at);
  std::string where = "; there is no global memory";
  if (nearest != nullptr) {
    const auto begin = reinterpret_cast<uintptr_t>(nearest->data);
    const std::string of = " a buffer of " + std::to_string(nearest->bytes) + " bytes";
    where = at < begin ? ", " + std::to_string(begin - at) + " bytes before" + of
                       : ", " + std::to_string(at - begin) + " bytes from the begin of" + of;
  }
  Fail(Accessing(use, bytes) + " out of bounds" + where, place);
}

}  // namespace penstock::emulator
