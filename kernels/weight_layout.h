// How weights lie on a GPU: what the packer on the host writes and the kernels read.
// Owns nothing. Plain C++, so that g++ compiles it without the toolkit. Must not know models.
// Threads: value.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/namespace.h"

namespace penstock::PENSTOCK_KERNELS {

constexpr int32_t kTileRows = 128;   // of a weight, which eight warps of a CTA multiply at a time
constexpr int32_t kStepBytes = 128;  // of a row, in a step along k
constexpr int32_t kRowAlign = 16;    // bytes: what one copy instruction moves

/// Plain rows, of bfloat16, float16 or int8: each begins at a multiple of kRowAlign; what follows
/// the last column is not read.
PENSTOCK_EVERYWHERE constexpr int64_t PlainRowBytes(int64_t k, int32_t element_bytes) {
  return (k * element_bytes + kRowAlign - 1) / kRowAlign * kRowAlign;
}

enum class ScaleKind : uint8_t { kNone, kFloat32, kBFloat16, kFloat16 };
PENSTOCK_EVERYWHERE constexpr int32_t BytesOf(ScaleKind kind) {
  return kind == ScaleKind::kNone ? 0 : kind == ScaleKind::kFloat32 ? 4 : 2;
}

constexpr int32_t kCodeBytes = 8192;       // of the codes of a step of a tile
constexpr int32_t kMostScaleBytes = 4096;  // of its scales and offsets
constexpr int32_t kMultiplied = 16;        // columns that one instruction multiplies
constexpr int32_t kWarpCodeBytes = 1024;   // of its 16 rows in a step

/// Codes of 4 or 8 bits, [tile][step]: the codes of kTileRows rows and step_columns() columns in the
/// order in which lanes multiply them, then scales [groups][kTileRows], then offsets likewise, each
/// row's group after group; one contiguous run that is copied whole. Rows and columns that are not
/// there are 0. value = scale * (code - center) + offset, or scale * number + offset of numbers in
/// e4m3 or e2m1; of e4m3, the codes that are no numbers count as 480.
struct CodeLayout {
  int32_t bits = 8;
  int32_t center = 0;                       // of 8 bits 0 to 256, of 4 bits 0 to 16
  int32_t group = 0;                        // columns; 0: a scale per row, which lies elsewhere
  ScaleKind scale_kind = ScaleKind::kNone;  // kNone: where group is 0
  ScaleKind offset_kind = ScaleKind::kNone;
  bool floats = false;  // codes of 8 bits are e4m3, of 4 bits e2m1; the center is 0

  PENSTOCK_EVERYWHERE constexpr int32_t step_columns() const {
    return kCodeBytes * 8 / bits / kTileRows;
  }
  /// Scales of a row in a step; a group of several steps is in each of them.
  PENSTOCK_EVERYWHERE constexpr int32_t groups() const {
    return group == 0 ? 0 : group < step_columns() ? step_columns() / group : 1;
  }
  PENSTOCK_EVERYWHERE constexpr int32_t scales_bytes() const {
    return groups() * kTileRows * BytesOf(scale_kind);
  }
  PENSTOCK_EVERYWHERE constexpr int32_t step_bytes() const {
    return kCodeBytes + scales_bytes() + groups() * kTileRows * BytesOf(offset_kind);
  }
  PENSTOCK_EVERYWHERE constexpr int32_t steps(int64_t k) const {
    return static_cast<int32_t>((k + step_columns() - 1) / step_columns());
  }
  PENSTOCK_EVERYWHERE constexpr int64_t bytes(int64_t n, int64_t k) const {
    return (n + kTileRows - 1) / kTileRows * steps(k) * step_bytes();
  }
  /// Whether the kernels take it.
  constexpr bool is_valid() const {
    const bool whole =
        group == 0 ||
        (group % kMultiplied == 0 &&
         (group < step_columns() ? step_columns() % group == 0 : group % step_columns() == 0));
    return (bits == 4 || bits == 8) && center >= 0 && center <= 1 << bits && whole &&
           (!floats || center == 0) && (group != 0 || offset_kind == ScaleKind::kNone) &&
           step_bytes() <= kCodeBytes + kMostScaleBytes;
  }
};

/// Where the code of a row of a tile and a column of a step lies: `byte` of the step's codes, from
/// bit `shift` on. Of 8 bits, as byte - 128, lane 4 g + t has rows g and g + 8 at columns 4 t to
/// 4 t + 3 of 16; of 4 bits it has columns 2 t, 2 t + 1 and 8 more, the even ones in the low half of
/// a word.
struct CodeSpot {
  int32_t byte;
  int32_t shift;
};
PENSTOCK_EVERYWHERE constexpr CodeSpot SpotOfCode(int32_t bits, int32_t row, int32_t column) {
  const int32_t r = row % 16;
  const int32_t warp = row / 16 * kWarpCodeBytes;
  if (bits == 8) {
    const int32_t c = column % 32;
    const int32_t lane = r % 8 * 4 + c % 16 / 4;
    return {warp + column / 32 * 512 + lane * 16 + (r / 8 + c / 16 * 2) * 4 + c % 4, 0};
  }
  const int32_t c = column % 16;
  const int32_t block = column / 16;
  const int32_t lane = r % 8 * 4 + c % 8 / 2;
  const int32_t nibble = r / 8 + c / 8 * 2 + c % 2 * 4;
  return {warp + block / 4 * 512 + lane * 16 + block % 4 * 4 + nibble / 2, nibble % 2 * 4};
}

}  // namespace penstock::PENSTOCK_KERNELS
