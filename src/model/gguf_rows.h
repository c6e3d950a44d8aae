// Rows and columns of a GGUF tensor in the order of the hub's checkpoint, as numbers or as codes.
// Points into the mapping. Must not know names of tensors.
// Threads: immutable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "backend/quantized_rows.h"
#include "format/ggml_blocks.h"
#include "model/tensor_source.h"

namespace penstock {

/// Value heads that the file has in turn, the first of every key head first; the checkpoint has all
/// of one key head together.
struct TiledHeads {
  int64_t key_heads = 0;  // 0: in the checkpoint's order
  int64_t per_key = 0;    // value heads of one key head
  int64_t size = 1;       // rows or columns of one value head

  /// Where the file has row or column `i` of the checkpoint.
  int64_t InFile(int64_t i) const {
    const int64_t head = i / size;
    return (head % per_key * key_heads + head / per_key) * size + i % size;
  }
};

/// Rows of one tensor, or of two in turn.
struct GgufRows {
  GgmlType type = GgmlType::kF32;
  const std::byte* data = nullptr;
  const std::byte* odd_rows = nullptr;  // null: all rows lie at `data`
  int64_t rows = 0;
  int64_t k = 0;
  int64_t row_bytes = 0;
  int64_t turned_dim = 0;      // rows of a head whose halves the file interleaves; 0: as they are
  TiledHeads tiled_rows = {};  // of the rows from `tiled_begin` on
  int64_t tiled_begin = 0;
  TiledHeads tiled_columns = {};
  bool minus_one = false;

  bool in_order() const {
    return odd_rows == nullptr && turned_dim == 0 && tiled_rows.key_heads == 0 &&
           tiled_columns.key_heads == 0;
  }
  const std::byte* Row(int64_t r) const;
};

/// As numbers; `owner` keeps the mapping. Quantised types become float32.
HostTensor GgufNumbers(const GgufRows& rows, absl::Span<const int64_t> shape,
                       std::shared_ptr<const void> owner);
/// As codes decoded from the mapping when they are read; null where the type has none.
std::shared_ptr<const QuantizedRows> GgufCodes(const GgufRows& rows,
                                               std::shared_ptr<const void> owner);

}  // namespace penstock
