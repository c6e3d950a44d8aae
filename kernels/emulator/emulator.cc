#include "kernels/emulator/emulator.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>

#include "kernels/emulator/machine.h"

namespace penstock::emulator {
namespace {

Machine& TheMachine() { return Machine::Get(); }

/// Host threads take turns.
std::mutex turn;

void GuardedCheck(int thread, const void* address, size_t bytes, Machine::Use use,
                  const Place& place) {
  TheMachine().Guard([&] { TheMachine().Check(thread, address, bytes, use, place); });
}

}  // namespace

void Configure(const Options& options) { TheMachine().Configure(options); }
const Options& Configured() { return TheMachine().options; }

std::string TakeFault() {
  const std::scoped_lock lock(turn);
  return std::exchange(TheMachine().fault, {});
}
bool IsFaulted() {
  const std::scoped_lock lock(turn);
  return !TheMachine().fault.empty();
}

bool Run(const LaunchShape& shape, void (*body)(const void*), const void* parameters,
         size_t parameter_bytes) {
  const std::scoped_lock lock(turn);
  return TheMachine().Run(shape, body, parameters, parameter_bytes);
}

void SettleLaunches() {
  const std::scoped_lock lock(turn);
  TheMachine().SettleLaunches();
}

size_t FreeMemory() {
  const std::scoped_lock lock(turn);
  const Options& options = TheMachine().options;
  const size_t taken = options.others + TheMachine().global.bytes();
  return options.memory - std::min(options.memory, taken);
}

void* Allocate(size_t bytes) {
  if (Configured().memory > 0 && bytes > FreeMemory()) return nullptr;
  const std::scoped_lock lock(turn);
  return TheMachine().global.Allocate(bytes);
}
bool Free(void* data) {
  const std::scoped_lock lock(turn);
  return TheMachine().global.Free(data);
}

bool IsAllocated(const void* data, size_t bytes) {
  if (bytes == 0) return true;
  const std::scoped_lock lock(turn);
  const Buffer* buffer = TheMachine().global.Find(reinterpret_cast<uintptr_t>(data));
  const auto* begin = static_cast<const std::byte*>(data);
  if (buffer != nullptr && begin + bytes <= buffer->data + buffer->bytes) return true;
  TheMachine().FailHost("the host copies " + std::to_string(bytes) +
                        " bytes that are not all in one allocation of device memory");
  return false;
}

void MarkWritten(const void* data, size_t bytes) {
  if (bytes == 0) return;
  const std::scoped_lock lock(turn);
  Buffer* buffer = TheMachine().global.Find(reinterpret_cast<uintptr_t>(data));
  const size_t begin = static_cast<size_t>(static_cast<const std::byte*>(data) - buffer->data);
  std::fill_n(buffer->states + begin, bytes, ByteState::kWritten);
}

void* SharedArray(const char* name, size_t bytes, Where where) {
  return TheMachine().Guard([&] { return TheMachine().SharedArray(name, bytes, where); });
}
void* DynamicShared() { return TheMachine().dynamic_shared; }

void Barrier(int id, int count, bool aligned, Where where) {
  TheMachine().Guard([&] { TheMachine().Barrier(id, count, aligned, true, where); });
}
void ArriveAtBarrier(int id, int count, Where where) {
  TheMachine().Guard([&] { TheMachine().Barrier(id, count, false, false, where); });
}

void Meet(const char* what, uint32_t mask, const void* in, void* out, void (*compute)(Lanes&),
          bool orders_memory, Where where) {
  TheMachine().Guard(
      [&] { TheMachine().Meet(what, mask, in, out, compute, orders_memory, where); });
}
int Lane() { return TheMachine().current()->index % 32; }
uint32_t FullMask() { return TheMachine().FullMask(); }

void CopyAsync(void* shared, const void* global, size_t bytes, size_t valid, Where where) {
  TheMachine().Guard([&] {
    TheMachine().CopyAsync({static_cast<std::byte*>(shared), static_cast<const std::byte*>(global),
                            bytes, std::min(valid, bytes), where});
  });
}
void CommitCopies() {
  Thread* self = TheMachine().current();
  self->groups.push_back(std::exchange(self->open_group, {}));
}
void WaitForCopies(int groups) {
  TheMachine().Guard([&] { TheMachine().WaitForCopies(groups); });
}

void WaitForKernelsBefore() { TheMachine().current()->sees_kernels_before = true; }

void CheckReadOf(int thread, const void* address, size_t bytes, Where where) {
  GuardedCheck(thread, address, bytes, Machine::Use::kRead, {where});
}
void AtomicLoad(const void* from, void* to, size_t bytes, Where where) {
  GuardedCheck(TheMachine().current()->index, from, bytes, Machine::Use::kAtomic, {where});
  std::memcpy(to, from, bytes);
}
void AtomicStore(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }

void Release(uint32_t* flag, uint32_t value, Where where) {
  TheMachine().Guard([&] { TheMachine().Release(flag, value, where); });
}
uint32_t Acquire(const uint32_t* flag, Where where) {
  return TheMachine().Guard([&] { return TheMachine().Acquire(flag, where); });
}
uint64_t Nanoseconds() { return TheMachine().Nanoseconds(); }

void Fail(const char* message, Where where) {
  TheMachine().Guard([&] { throw Fault{message, {where}}; });
}

}  // namespace penstock::emulator
