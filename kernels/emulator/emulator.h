// Runs kernels on the CPU and finds their faults: the interface of the shims, of kernels/ptx.cuh and
// of tests. The rules that it holds kernels to are in kernels/emulator/README.md.
// Owns the emulated device. Must not know any kernel.
// Threads: host threads take turns, a launch, copy or allocation at a time; a fault is that of the
// thread that asks first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>

namespace penstock::emulator {

using Where = std::source_location;

struct Options {
  uint64_t seed = 1;                // of the order of blocks, warps and lanes
  size_t shared_bytes = 99 * 1024;  // that a block may have
  // What the run time says of the machine.
  int gpus = 1;
  int major = 8, minor = 0;  // compute capability
  int driver = 13000;        // the newest version of CUDA that it knows; 0: there is none
  size_t memory = 0;         // bytes of the GPU; 0: it is the host's
  size_t others = 0;         // bytes of it that other processes have
  std::string fault_file;    // once it is there every launch fails; empty: none does
};
/// The defaults, but for what the variable PENSTOCK_EMULATED_GPU says, for tests of whole programs:
/// "gpus=0 capability=7.5 driver=11080 memory=1073741824 others=0 fault_file=/path". Ends the process
/// where it says something else.
Options OptionsFromEnvironment();
void Configure(const Options& options);
const Options& Configured();

/// The first fault since the last call, in words; empty: none. Until it is taken nothing runs.
std::string TakeFault();
bool IsFaulted();

struct Index3 {
  unsigned x = 1, y = 1, z = 1;
};

/// Where the running thread is.
extern Index3 thread_index, block_index, block_shape, grid_shape;

struct LaunchShape {
  const char* name = "";  // of the kernel, for messages
  Index3 grid;
  Index3 block;
  size_t shared_bytes = 0;  // dynamic
  bool early = false;       // may begin before the kernels before it have ended
};
/// Runs body(parameters) in every thread of the grid; false: a fault.
bool Run(const LaunchShape& shape, void (*body)(const void* parameters), const void* parameters,
         size_t parameter_bytes);
/// The host, or a copy in the stream, waits for all kernels launched so far.
void SettleLaunches();

// Device memory, poisoned when it is fresh.
/// Null: there is no more.
void* Allocate(size_t bytes);
/// Of Options::memory, what nobody has.
size_t FreeMemory();
/// False: not such memory.
bool Free(void* data);
/// Where [data, data + bytes) is not all of one allocation: a fault, and false.
bool IsAllocated(const void* data, size_t bytes);
void MarkWritten(const void* data, size_t bytes);

// What follows is called by the threads of a kernel.

/// The block's array of that name and place; the same for all of its threads.
void* SharedArray(const char* name, size_t bytes, Where where = Where::current());
/// The launch's shared_bytes.
void* DynamicShared();

/// Threads wait at barrier `id` until `count` have come; they all come from one place where it is
/// `aligned`.
void Barrier(int id, int count, bool aligned, Where where);
/// As Barrier, without waiting.
void ArriveAtBarrier(int id, int count, Where where);

/// The lanes of `mask` meet; the last calls `compute` with what every lane brought. in and out of
/// lanes outside the mask are null.
struct Lanes {
  uint32_t mask = 0;
  const void* in[32] = {};
  void* out[32] = {};
  int first_thread = 0;  // lane l is thread first_thread + l of the block
};
void Meet(const char* what, uint32_t mask, const void* in, void* out, void (*compute)(Lanes& lanes),
          bool orders_memory, Where where);
int Lane();
/// All lanes that the warp has: fewer than 32 in the last of a block.
uint32_t FullMask();

/// Copies from global to shared memory when waited for; bytes from `valid` on are zero.
void CopyAsync(void* shared, const void* global, size_t bytes, size_t valid, Where where);
void CommitCopies();
/// Until at most `groups` of this thread's groups are in flight.
void WaitForCopies(int groups);

/// The writes of the kernels before are visible from here on.
void WaitForKernelsBefore();

/// As a load of thread `thread` of the block; where it is not legal the running one ends here.
void CheckReadOf(int thread, const void* address, size_t bytes, Where where);
/// A read, change and write that no other comes between: AtomicStore follows at once.
void AtomicLoad(const void* from, void* to, size_t bytes, Where where);
void AtomicStore(void* to, const void* from, size_t bytes);

/// Stores a flag; what this thread wrote before, or knows to be written, is ordered before what
/// follows an Acquire that reads it.
void Release(uint32_t* flag, uint32_t value, Where where);
/// Loads a flag; others run before: this is how a thread waits for one that does not wait for it.
uint32_t Acquire(const uint32_t* flag, Where where);
/// A clock that goes on by a microsecond each time.
uint64_t Nanoseconds();

/// Ends the thread and the launch.
void Fail(const char* message, Where where);

}  // namespace penstock::emulator
