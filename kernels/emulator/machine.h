// The emulated GPU: a launch's blocks one after the other, a block's threads as fibers, and every
// rule that an access or a meeting of threads must keep.
// Owns fibers, memory and the first fault. Must not know any kernel; what lanes compute when they
// meet is in warp_ops.cc and cuda_shim.h.
// Threads: one host thread.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/emulator/emulator.h"
#include "kernels/emulator/fiber.h"
#include "kernels/emulator/shadow.h"

namespace penstock::emulator {

/// A place in a kernel: of a call that says where it is, or of an instruction.
struct Place {
  Where where = {};
  const void* code = nullptr;  // not null: in place of `where`
};
std::string Describe(const Place& place);

/// What a kernel did that it may not; thrown, and caught where the kernel called: by Guard.
struct Fault {
  std::string message;
  Place place;
};

struct Copy {
  std::byte* shared;
  const std::byte* global;
  size_t bytes;
  size_t valid;
  Where where;
};

struct Thread {
  enum class State : uint8_t { kReady, kWaiting, kDone };

  Fiber fiber;
  int index = 0;
  State state = State::kDone;
  const char* waits_in = "";
  Where waits_at;
  bool sees_kernels_before = false;
  std::deque<std::vector<Copy>> groups;  // in flight, the oldest first
  std::vector<Copy> open_group;
};

/// Whether this host thread is the one that runs a kernel: others may run functions that the linker
/// shares with kernels, at the same time.
inline constinit thread_local bool runs_kernel = false;

class Machine {
 public:
  static Machine& Get();

  bool Run(const LaunchShape& shape, void (*body)(const void*), const void* parameters,
           size_t parameter_bytes);
  void Configure(const Options& options);
  /// fn(), or the running thread and the launch end here. No frame from Guard down to the kernel owns
  /// anything: the fiber is abandoned.
  template <class Fn>
  auto Guard(const Fn& fn) {
    try {
      return fn();
    } catch (const Fault& fault) {
      Note(fault);
    }
    Abandon();
  }
  /// A fault of the host's, outside of kernels.
  void FailHost(const std::string& message);

  void Barrier(int id, int count, bool aligned, bool wait, const Where& where);
  void Meet(const char* what, uint32_t mask, const void* in, void* out, void (*compute)(Lanes&),
            bool orders_memory, const Where& where);
  void Release(uint32_t* flag, uint32_t value, const Where& where);
  uint32_t Acquire(const uint32_t* flag, const Where& where);
  uint64_t Nanoseconds() { return nanoseconds_ += 1000; }
  void CopyAsync(const Copy& copy);
  void WaitForCopies(int groups);
  void* SharedArray(const char* name, size_t bytes, const Where& where);

  enum class Use : uint8_t { kRead, kWrite, kAtomic };
  /// `thread` of the block reads or writes: legal, or the running thread ends here.
  void Check(int thread, const void* address, size_t bytes, Use use, const Place& place);
  void CheckShared(int thread, const void* address, size_t bytes, Use use, const Place& place);
  void SettleLaunches() { settled_ = launch_; }
  Thread* current() { return current_; }
  uint32_t FullMask() const;

  Options options = OptionsFromEnvironment();
  GlobalMemory global;
  std::string fault;
  std::byte* dynamic_shared = nullptr;

 private:
  struct BarrierState {
    int arrived = 0;
    std::vector<int> waiting;
    std::vector<int> all;
    Where first;
    std::array<uint32_t, kMaxWarps> clock = {};
  };
  struct Meeting {
    const char* what;
    Where where;
    uint32_t arrived;
    Lanes lanes;
  };
  struct ArrayKey {
    std::string file;
    unsigned line;
    std::string name;
    auto operator<=>(const ArrayKey&) const = default;
  };

  static void ThreadMain(void* argument);
  void Note(const Fault& fault);
  [[noreturn]] void Abandon();
  [[noreturn]] static void Fail(std::string message, const Place& place) {
    throw Fault{std::move(message), place};
  }
  void RunBlock();
  bool RunWarp(int warp);
  void Wait(const char* in, const Where& at);
  void ReportDeadlock();
  void CheckGlobal(const Buffer& buffer, int thread, const void* address, size_t bytes, Use use,
                   const Place& place);
  [[noreturn]] void FailOutside(const void* address, size_t bytes, Use use, const Place& place);
  bool IsConstant(uintptr_t address, size_t bytes) const;
  void Land(const Copy& copy);
  void EndOfThread();
  uint64_t Next();
  void Shuffle(std::vector<int>& values);
  std::string WhoAmI() const;

  uint64_t random_ = 0;
  uint64_t nanoseconds_ = 0;
  std::vector<std::unique_ptr<Thread>> threads_;
  int num_threads_ = 0;  // of the block
  Thread* current_ = nullptr;
  std::unique_ptr<SharedMemory> shared_;
  std::map<ArrayKey, std::pair<void*, size_t>> arrays_;
  std::map<int, BarrierState> barriers_;
  std::vector<Meeting> meetings_[kMaxWarps];
  std::map<const void*, std::array<uint32_t, kMaxWarps>> released_;  // with a flag, by this block
  Clocks clocks_;
  LaunchShape shape_;
  void (*body_)(const void*) = nullptr;
  uintptr_t parameters_ = 0;
  size_t parameter_bytes_ = 0;
  uint32_t launch_ = 0;
  uint32_t settled_ = 0;             // launches up to here have ended whatever is launched next
  uint32_t block_ = 0;               // of the grid, from 1
  bool block_synchronised_ = false;  // with other blocks, by an atomic
  std::vector<std::string> names_;   // of launches after settled_
  std::string pending_;
  Place pending_place_;
};

}  // namespace penstock::emulator
