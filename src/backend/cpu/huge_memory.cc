#include "backend/cpu/huge_memory.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "base/machine.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kChunkBytes = size_t{64} << 20;
constexpr size_t kLargeBytes = size_t{16} << 20;  // of a buffer that has a mapping of its own
constexpr size_t kLine = 64;

std::atomic<int64_t> held_host_bytes{0};

/// `bytes` on a multiple of `alignment`, a power of two; null: there is no memory.
void* MapAligned(size_t bytes, size_t alignment) {
  const size_t slack = alignment > 4096 ? alignment : 0;
  void* data = ::mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  auto* begin = static_cast<char*>(data);
  const size_t skipped = slack == 0 ? 0 : -reinterpret_cast<uintptr_t>(begin) % alignment;
  if (skipped > 0) ::munmap(begin, skipped);
  begin += skipped;
  const size_t pages = (bytes + 4095) / 4096 * 4096;
  const size_t mapped = (bytes + slack + 4095) / 4096 * 4096 - skipped;
  if (mapped > pages) ::munmap(begin + pages, mapped - pages);
  ::madvise(begin, pages, MADV_HUGEPAGE);
  return begin;
}

absl::Status NoMemory(size_t bytes) {
  return absl::ResourceExhaustedError(absl::StrCat(
      "no memory for ", bytes, " bytes, this process holds ", HeldHostBytes(), " and may have ",
      AllowedMemory(),
      ", less where it is limited (ulimit -v): lower engine.kv_memory, see penstock plan"));
}

}  // namespace

absl::StatusOr<DeviceBuffer> MapMemory(size_t bytes) {
  if (bytes == 0) return DeviceBuffer();
  void* data = MapAligned(bytes, bytes >= kHugePage ? kHugePage : 1);
  if (data == nullptr) return NoMemory(bytes);
  held_host_bytes += static_cast<int64_t>(bytes);
  return DeviceBuffer(data, bytes, [](void* p, size_t n) {
    held_host_bytes -= static_cast<int64_t>(n);
    ::munmap(p, n);
  });
}

int64_t HeldHostBytes() { return held_host_bytes; }

/// At the begin of its memory, which lies on a multiple of its size: a buffer finds it.
struct WeightArena::Chunk {
  std::atomic<size_t> num_holders = 1;
};

void WeightArena::LetGo(Chunk* chunk) {
  if (chunk->num_holders.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    ::munmap(chunk, kChunkBytes);
  }
}

WeightArena::~WeightArena() {
  if (chunk_ != nullptr) LetGo(chunk_);
}

absl::StatusOr<DeviceBuffer> WeightArena::Allocate(size_t bytes) {
  if (bytes == 0 || bytes >= kLargeBytes) return MapMemory(bytes);
  const size_t size = (bytes + kLine - 1) / kLine * kLine;
  if (chunk_ == nullptr || used_ + size > kChunkBytes) {
    void* memory = MapAligned(kChunkBytes, kChunkBytes);
    if (memory == nullptr) return NoMemory(bytes);
    if (chunk_ != nullptr) LetGo(chunk_);
    chunk_ = new (memory) Chunk;
    used_ = kLine;
  }
  chunk_->num_holders.fetch_add(1, std::memory_order_relaxed);
  char* begin = reinterpret_cast<char*>(chunk_) + used_;
  used_ += size;
  held_host_bytes += static_cast<int64_t>(bytes);
  return DeviceBuffer(begin, bytes, [](void* p, size_t n) {
    held_host_bytes -= static_cast<int64_t>(n);
    LetGo(reinterpret_cast<Chunk*>(reinterpret_cast<uintptr_t>(p) & ~(kChunkBytes - 1)));
  });
}

}  // namespace penstock
