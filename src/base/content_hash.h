// A 64-bit hash of many bytes at the speed of memory, to tell content apart and to find damage. A
// change within one 8-byte word always changes it; it does not withstand somebody who aims at
// equal hashes.
// Owns nothing. Must not know what the bytes mean.
// Threads: thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/worker_pool.h"

namespace penstock {

constexpr int64_t kHashChunk = 1 << 20;  // bytes that are hashed together, of what is hashed by all

uint64_t ContentHash(absl::Span<const std::byte> bytes);

/// Of the hashes of chunks, in order.
uint64_t JoinHashes(absl::Span<const uint64_t> chunks);

/// The joined hashes of the file's chunks of kHashChunk; `bytes` gets its size.
absl::StatusOr<uint64_t> HashFile(const std::string& path, WorkerPool& pool, int64_t& bytes);

/// Reads exactly `size` bytes; DATA_LOSS where the file ends before.
absl::Status ReadFully(int fd, int64_t begin, std::byte* to, int64_t size);

}  // namespace penstock
