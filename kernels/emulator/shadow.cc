#include "kernels/emulator/shadow.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>

namespace penstock::emulator {
namespace {

constexpr size_t kGap = 256;   // around every array and allocation
constexpr int kPoison = 0xff;  // no number as float32, bfloat16 and float16, -1 as an integer

size_t RoundUp(size_t n, size_t to) { return (n + to - 1) / to * to; }

template <class T>
T* Zeroed(size_t count) {
  return static_cast<T*>(std::calloc(std::max<size_t>(count, 1), sizeof(T)));
}

}  // namespace

void Clocks::Reset() {
  now.fill(1);
  for (auto& of_warp : known) of_warp.fill(1);
}

SharedMemory::SharedMemory(size_t capacity)
    : capacity_(capacity),
      bytes_of_arena_(capacity + 64 * kGap),
      storage_(new std::byte[bytes_of_arena_ + kGap]),
      states_(bytes_of_arena_),
      known_(bytes_of_arena_) {
  const auto begin = reinterpret_cast<uintptr_t>(storage_.get());
  data_.reset(reinterpret_cast<std::byte*>(RoundUp(begin, kGap)));
  end_ = bytes_of_arena_;
  Reset();
}

void SharedMemory::Reset() {
  std::fill_n(states_.begin(), end_, ByteState::kOutside);
  std::fill_n(known_.begin(), end_, Known());
  used_ = 0;
  end_ = kGap;
}

std::byte* SharedMemory::Take(size_t bytes) {
  const size_t rounded = RoundUp(bytes, 16);
  const size_t next = RoundUp(end_ + bytes + kGap, 128);
  if (used_ + rounded > capacity_ || next > bytes_of_arena_) return nullptr;
  std::byte* begin = data_.get() + end_;
  std::memset(begin, kPoison, bytes);
  std::fill_n(states_.begin() + end_, bytes, ByteState::kPoison);
  used_ += rounded;
  end_ = next;
  return begin;
}

GlobalMemory::~GlobalMemory() {
  while (!buffers_.empty()) Free(buffers_.begin()->second.data);
}

std::byte* GlobalMemory::Allocate(size_t bytes) {
  const size_t all = RoundUp(kGap + bytes + kGap, kGap);
  auto* block = static_cast<std::byte*>(std::aligned_alloc(kGap, all));
  Buffer buffer{block + kGap, bytes, Zeroed<ByteState>(bytes), Zeroed<GlobalRecord>(bytes)};
  if (block == nullptr || buffer.states == nullptr || buffer.writes == nullptr) {
    std::free(block);
    std::free(buffer.states);
    std::free(buffer.writes);
    return nullptr;
  }
  std::memset(block, kPoison, all);
  bytes_ += bytes;
  std::fill_n(buffer.states, bytes, ByteState::kPoison);
  buffers_[reinterpret_cast<uintptr_t>(buffer.data)] = buffer;
  return buffer.data;
}

bool GlobalMemory::Free(void* data) {
  const auto found = buffers_.find(reinterpret_cast<uintptr_t>(data));
  if (found == buffers_.end()) return false;
  last_found_ = nullptr;
  bytes_ -= found->second.bytes;
  std::free(found->second.data - kGap);
  std::free(found->second.states);
  std::free(found->second.writes);
  buffers_.erase(found);
  return true;
}

Buffer* GlobalMemory::Find(uintptr_t address) {
  const auto holds = [address](const Buffer& b) {
    return address - reinterpret_cast<uintptr_t>(b.data) < b.bytes;
  };
  if (last_found_ != nullptr && holds(*last_found_)) return last_found_;
  auto next = buffers_.upper_bound(address);
  if (next == buffers_.begin()) return nullptr;
  Buffer& buffer = std::prev(next)->second;
  if (!holds(buffer)) return nullptr;
  last_found_ = &buffer;
  return &buffer;
}

const Buffer* GlobalMemory::Nearest(uintptr_t address) const {
  if (buffers_.empty()) return nullptr;
  const auto next = buffers_.upper_bound(address);
  if (next == buffers_.begin()) return &next->second;
  const Buffer& before = std::prev(next)->second;
  if (next == buffers_.end()) return &before;
  const uintptr_t behind = address - (reinterpret_cast<uintptr_t>(before.data) + before.bytes);
  return next->first - address < behind ? &next->second : &before;
}

}  // namespace penstock::emulator
