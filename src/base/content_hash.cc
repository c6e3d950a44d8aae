#include "base/content_hash.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/status/status.h"
#include "base/mmap_file.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

constexpr int kLanes = 8;  // chains of multiplications side by side: one alone waits for itself
constexpr uint64_t kOdd = 0xd1342543de82ef95u;
constexpr uint64_t kMore = 0x9e3779b97f4a7c15u;

/// One to one in `state` and in `word`.
inline uint64_t Step(uint64_t state, uint64_t word) {
  state = (state ^ word) * kOdd;
  return state ^ state >> 32;  // what a product leaves in the highest bits alone reaches the others
}

inline void AddBlock(const std::byte* block, uint64_t (&lanes)[kLanes]) {
  uint64_t words[kLanes];
  std::memcpy(words, block, sizeof words);
  for (int i = 0; i < kLanes; ++i) lanes[i] = Step(lanes[i], words[i]);
}

}  // namespace

uint64_t ContentHash(absl::Span<const std::byte> bytes) {
  constexpr size_t kBlock = kLanes * sizeof(uint64_t);
  uint64_t lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) lanes[i] = kMore * static_cast<uint64_t>(i + 1);
  size_t at = 0;
  for (; at + kBlock <= bytes.size(); at += kBlock) AddBlock(bytes.data() + at, lanes);
  if (at < bytes.size()) {
    std::byte last[kBlock] = {};
    std::memcpy(last, bytes.data() + at, bytes.size() - at);
    AddBlock(last, lanes);
  }
  uint64_t hash = static_cast<uint64_t>(bytes.size()) * kMore;
  for (const uint64_t lane : lanes) hash = Step(hash, lane);
  hash = (hash ^ hash >> 32) * kMore;
  return hash ^ hash >> 29;
}

uint64_t JoinHashes(absl::Span<const uint64_t> chunks) {
  return ContentHash(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(chunks.data()),
                                         chunks.size() * sizeof(uint64_t)));
}

absl::Status ReadFully(int fd, int64_t begin, std::byte* to, int64_t size) {
  while (size > 0) {
    const ssize_t got = ::pread(fd, to, size, begin);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, "cannot read");
    if (got == 0) return absl::DataLossError("the file ends too early");
    begin += got;
    to += got;
    size -= got;
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> HashFile(const std::string& path, WorkerPool& pool, int64_t& bytes) {
  ASSIGN_OR_RETURN(const MmapFile file, MmapFile::Open(path));  // half the time of reading
  const absl::Span<const std::byte> all = file.bytes();
  bytes = static_cast<int64_t>(all.size());
  std::vector<uint64_t> hashes((bytes + kHashChunk - 1) / kHashChunk);
  pool.ParallelFor(static_cast<int64_t>(hashes.size()), [&](int64_t i) {
    hashes[i] = ContentHash(all.subspan(i * kHashChunk, kHashChunk));
  });
  RETURN_IF_ERROR(file.Intact());
  return JoinHashes(hashes);
}

}  // namespace penstock
