// The number types of ggml: their names, the sizes of their blocks, and the decoding of rows into
// the common quantised form or into float32.
// Owns nothing. Must not know files or tensors.
// Threads: value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "format/quantized_rows.h"
#include "penstock/types.h"

namespace penstock {

/// As the file spells it.
enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kBF16 = 30,
  kMXFP4 = 39,
};

struct GgmlTypeInfo {
  std::string_view name;
  int32_t block_size = 0;  // elements
  int32_t block_bytes = 0;
};

/// nullptr where the type is not known, so that not even its size is. Types that are known here
/// are not all decoded.
const GgmlTypeInfo* FindGgmlType(uint32_t type);

/// The types that DequantizeGgmlRows decodes, for messages.
std::string_view DecodedGgmlTypes();
bool IsDecodedGgmlType(GgmlType type);

/// The element type of F32, F16 and BF16.
std::optional<DType> PlainGgmlType(GgmlType type);

/// The form of a quantised type; nullopt for any other.
std::optional<QuantizedForm> QuantizedFormOf(GgmlType type);

/// Bytes of a row of `k` elements; `k` is a multiple of the type's block.
int64_t GgmlRowBytes(GgmlType type, int64_t k);

/// Rows of `k` elements of a quantised type, one after the other at `data`.
void DecodeGgmlRows(GgmlType type, const std::byte* data, int64_t num_rows, int64_t k,
                    const QuantizedRows& out);

/// Rows of any decoded type as float32 [num_rows, k], equal to ggml's own to the last bit.
void DequantizeGgmlRows(GgmlType type, const std::byte* data, int64_t num_rows, int64_t k,
                        float* out);

}  // namespace penstock
