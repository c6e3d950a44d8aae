// A file of packed layers: a page of header, each layer's weight and bias on pages of their own, an
// index. Every byte is covered by a hash.
// Owns what was parsed. Must not know models; what lies in a layer is its reader's to check.
// Threads: value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/siphash.h"
#include "penstock/types.h"

namespace penstock {

constexpr int64_t kPackedPage = 4096;

struct PackedHeader {
  Hash128 key;
  int64_t index_begin = 0;  // the index is the rest of the file
  int64_t index_bytes = 0;
  uint64_t index_hash = 0;
};

/// The joined hashes of chunks of kHashChunk of `bytes`, filled up to a page with zeros.
struct PackedSection {
  int64_t bytes = 0;
  uint64_t hash = 0;
};

struct PackedLayer {
  int64_t n = 0;
  int64_t k = 0;
  PackedSection weight, bias;
  std::vector<std::pair<DType, DType>> types;  // of scales and offsets, per segment
};

constexpr int64_t PackedPages(int64_t bytes) {
  return (bytes + kPackedPage - 1) / kPackedPage * kPackedPage;
}

std::vector<std::byte> FormatPackedHeader(const PackedHeader& header);
std::vector<std::byte> FormatPackedIndex(absl::Span<const PackedLayer> layers);

/// DATA_LOSS where the first page is not that of a whole file of `file_bytes`.
absl::StatusOr<PackedHeader> ParsePackedHeader(absl::Span<const std::byte> page,
                                               int64_t file_bytes);
/// DATA_LOSS where the layers do not fill the file up to `index_begin` exactly.
absl::StatusOr<std::vector<PackedLayer>> ParsePackedIndex(absl::Span<const std::byte> index,
                                                          int64_t index_begin);

}  // namespace penstock
