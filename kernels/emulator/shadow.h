// What the emulator knows of each byte of device memory: whether it exists, holds something, who
// wrote and read it last, and by that whether two accesses of a block's threads are ordered.
// Owns the bytes and what is known of them. Must not know fibers or how a fault is reported.
// Threads: confined to one host thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

namespace penstock::emulator {

constexpr int kMaxWarps = 32;

enum class ByteState : uint8_t { kOutside, kPoison, kWritten, kInFlight };

/// How far a block's warps have come, and how far each knows the others to have: epochs end at
/// barriers and, within a warp, at __syncwarp.
struct Clocks {
  std::array<uint32_t, kMaxWarps> now;                                // per warp
  std::array<std::array<uint32_t, kMaxWarps>, kMaxWarps> known = {};  // epochs before this are over

  void Reset();
  /// Whether what `thread` did in `epoch` of its warp comes before what `other` does now.
  bool IsBefore(int thread, uint32_t epoch, int other) const {
    if (thread == other) return true;
    const int warp = thread / 32;
    const int other_warp = other / 32;
    return epoch < (warp == other_warp ? now[warp] : known[other_warp][warp]);
  }
};

struct SharedRecord {
  uint32_t epoch = 0;  // 0: none
  int32_t thread = 0;
};

/// A block's shared memory.
class SharedMemory {
 public:
  explicit SharedMemory(size_t capacity);
  /// Everything is outside again.
  void Reset();
  /// Poisoned, aligned to 16, with a gap behind it; null: no room.
  std::byte* Take(size_t bytes);
  bool Holds(uintptr_t address) const {
    return address - reinterpret_cast<uintptr_t>(data_.get()) < bytes_of_arena_;
  }
  size_t Offset(const void* address) const {
    return static_cast<size_t>(static_cast<const std::byte*>(address) - data_.get());
  }
  size_t bytes_of_arena() const { return bytes_of_arena_; }

  struct Known {
    SharedRecord write;
    SharedRecord reads[2];  // the last two, by different threads
  };
  ByteState& state(size_t offset) { return states_[offset]; }
  Known& known(size_t offset) { return known_[offset]; }

 private:
  size_t capacity_;        // that a block may have
  size_t bytes_of_arena_;  // with the gaps
  size_t used_ = 0;        // of capacity_
  size_t end_ = 0;         // of the arena that was taken
  std::unique_ptr<std::byte[]> storage_;
  struct NotOwned {
    void operator()(std::byte*) const {}
  };
  std::unique_ptr<std::byte[], NotOwned> data_;  // aligned, in storage_
  std::vector<ByteState> states_;
  std::vector<Known> known_;
};

struct GlobalRecord {
  uint32_t launch = 0;  // 0: none, or the host
  uint32_t block = 0;
  uint32_t epoch = 0;
  uint16_t thread = 0;
  uint16_t atomic = 0;
};

/// An allocation of device memory.
struct Buffer {
  std::byte* data = nullptr;
  size_t bytes = 0;
  ByteState* states = nullptr;     // [bytes]
  GlobalRecord* writes = nullptr;  // [bytes], zeroed; pages of it appear when they are written
};

class GlobalMemory {
 public:
  ~GlobalMemory();
  /// Null: the host has no memory for it.
  std::byte* Allocate(size_t bytes);
  bool Free(void* data);
  /// Of all allocations.
  size_t bytes() const { return bytes_; }
  /// The allocation that holds `address`; null: none.
  Buffer* Find(uintptr_t address);
  /// The allocation nearest to `address`; null: there is none at all.
  const Buffer* Nearest(uintptr_t address) const;

 private:
  std::map<uintptr_t, Buffer> buffers_;
  Buffer* last_found_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace penstock::emulator
