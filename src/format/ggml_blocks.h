// The number types of ggml: their names, the sizes of their blocks, and the decoding of rows into
// the common quantised form or into float32.
// Owns nothing. Must not know files or tensors.
// Threads: value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/types/span.h"
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

/// value(r, c) = scale[r, c / group] * number(code[r, c]) + offset[r, c / group], where number(code)
/// is book[code], or code - center without a book. The product is rounded to float32, then the sum.
struct GgmlForm {
  int32_t bits = 8;                   // 4 or 8: codes are below 2^bits
  int32_t group = 32;                 // columns that share a scale: 16 or 32
  int32_t center = 0;                 // the code of zero
  bool has_offset = false;            // else the offsets are 0
  absl::Span<const float> book = {};  // [2^bits], lives as long as the program; or empty
};

/// Where decoded rows go; a null pointer is not written to.
struct GgmlDecoded {
  uint8_t* codes = nullptr;  // [num_rows, k], one a byte
  float* scales = nullptr;   // [num_rows, k / group]
  float* offsets = nullptr;  // [num_rows, k / group], where the form has them
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
std::optional<GgmlForm> GgmlFormOf(GgmlType type);

/// Bytes of a row of `k` elements; `k` is a multiple of the type's block.
int64_t GgmlRowBytes(GgmlType type, int64_t k);

/// Rows of `k` elements of a quantised type, one after the other at `data`.
void DecodeGgmlRows(GgmlType type, const std::byte* data, int64_t num_rows, int64_t k,
                    const GgmlDecoded& out);

/// Rows of any decoded type as float32 [num_rows, k], equal to ggml's own to the last bit.
void DequantizeGgmlRows(GgmlType type, const std::byte* data, int64_t num_rows, int64_t k,
                        float* out);

}  // namespace penstock
