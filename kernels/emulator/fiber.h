// A coroutine with a stack of its own: runs until it switches out, goes on when it is resumed.
// Owns its stack, below which a page faults. Must not know kernels or threads of a block.
// Threads: all of a program's fibers belong to one host thread. A fiber that is not resumed again is
// abandoned: nothing on its stack is destroyed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace penstock::emulator {

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Whatever it did is forgotten; `entry(argument)` runs at the next Resume and must not return.
  void Start(void (*entry)(void* argument), void* argument);
  /// From the host's stack: runs the fiber until it switches out.
  void Resume();
  /// From this fiber's stack: back to Resume. `forever`: it is not resumed again before Start.
  void SwitchOut(bool forever);

  bool Holds(uintptr_t address) const { return address - stack_begin_ < kStackBytes; }

 private:
  static constexpr size_t kStackBytes = 128 * 1024;
  static constexpr size_t kGuardBytes = 4096;
  struct Entry;

  void* mapping_ = nullptr;
  uintptr_t stack_begin_ = 0;
  void* context_ = nullptr;  // where the fiber goes on
  void* host_ = nullptr;     // where Resume goes on
  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
  // AddressSanitizer's view of the two stacks.
  void* fake_stack_ = nullptr;
  const void* host_bottom_ = nullptr;
  size_t host_bytes_ = 0;
};

}  // namespace penstock::emulator
