#include "backend/cuda/weight_pack.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cuda/code_layout.h"
#include "backend/linear_rows.h"
#include "backend/quantized_rows.h"
#include "backend/scale_type.h"
#include "base/half.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

using kernels::CodeLayout;
using kernels::CodeLayoutOf;
using kernels::kTileRows;

constexpr size_t kSegmentAlign = 256;

size_t AlignedForSegment(size_t bytes) {
  return (bytes + kSegmentAlign - 1) / kSegmentAlign * kSegmentAlign;
}

bool HasCodes(const LinearSegment& segment) {
  return segment.format == WeightFormat::kCodes4 || segment.format == WeightFormat::kCodes8;
}

/// A type of ScaleKind that holds all that `type` does.
DType CudaScaleType(DType type) { return type == DType::kFloat8E8M0 ? DType::kBFloat16 : type; }

/// Whether a code book is that of e4m3, but for the two codes that are no numbers.
bool IsE4m3(const std::vector<float>& book) {
  if (book.size() != 256) return false;
  for (int code = 0; code < 256; ++code) {
    const int exponent = code >> 3 & 15;
    const int mantissa = (code & 7) + (exponent == 0 ? 0 : 8);
    const float number = std::ldexp(static_cast<float>(mantissa), std::max(exponent, 1) - 10);
    if ((code & 127) != 127 && book[code] != (code < 128 ? number : -number)) return false;
  }
  return true;
}

/// What numbers in e2m1 are multiplied by to be those of the book: 1, or 2 where the file's scales
/// are half of the numbers' (GGUF); 0: the book is another.
float FactorOfE2m1(const std::vector<float>& book) {
  constexpr float kMagnitudes[] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  if (book.size() != 16) return 0.0f;
  const float factor = book[2];
  for (int code = 0; code < 16; ++code) {
    const float number = factor * kMagnitudes[code & 7];
    if (book[code] != (code < 8 ? number : -number)) return 0.0f;
  }
  return factor == 1.0f || factor == 2.0f ? factor : 0.0f;
}

/// Of codes that kernels take as they are.
bool IsFloats(const QuantizedForm& form) {
  return form.bits == 4 ? FactorOfE2m1(form.book) != 0.0f : IsE4m3(form.book);
}

/// Makes a segment of codes what the kernels take, or of numbers.
void FitSegment(const QuantizedForm& form, int64_t k, WeightFormat element,
                LinearSegment& segment) {
  constexpr int64_t kMostColumns = 132104;  // that 32 bits can sum
  const bool plain = (!segment.has_book || IsFloats(form)) && !segment.has_column_order;
  const bool one_scale = segment.group >= k;
  segment.scale_type = CudaScaleType(segment.scale_type);
  segment.offset_type = CudaScaleType(segment.offset_type);
  if (plain && one_scale && !segment.has_offset) {
    segment.group = 0;
    segment.integer_input = segment.integer_input && !segment.has_book &&
                            segment.format == WeightFormat::kCodes8 && segment.center == 128 &&
                            k <= kMostColumns;
    if (segment.integer_input) return;
  }
  segment.integer_input = false;
  if (one_scale && segment.group != 0) {
    const int64_t columns = CodeLayoutOf(segment).step_columns();
    segment.group = (k + columns - 1) / columns * columns;
  }
  if (plain && CodeLayoutOf(segment).is_valid()) return;
  LinearSegment numbers;
  numbers.format = element;
  numbers.row_begin = segment.row_begin;
  numbers.num_rows = segment.num_rows;
  segment = numbers;
}

void StoreNumbers(WeightFormat element, const float* values, int64_t k, std::byte* out) {
  for (int64_t i = 0; i < k; ++i) {
    const uint16_t half =
        element == WeightFormat::kBFloat16 ? FloatToBf16(values[i]) : FloatToFp16(values[i]);
    std::memcpy(out + 2 * i, &half, sizeof half);
  }
}

void LoadNumbers(WeightFormat format, const std::byte* row, int64_t k, float* values) {
  if (format == WeightFormat::kFloat32) {
    std::memcpy(values, row, k * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < k; ++i) {
    uint16_t half;
    std::memcpy(&half, row + 2 * i, sizeof half);
    values[i] = format == WeightFormat::kBFloat16 ? Bf16ToFloat(half) : Fp16ToFloat(half);
  }
}

/// One row of numbers, whatever its part is made of.
void FillRow(const LinearPart& part, int64_t row, int64_t k, WeightFormat element,
             std::vector<float>& values, std::byte* out) {
  if (part.codes != nullptr) {
    Dequantize(*part.codes, row, 1, values.data());
    StoreNumbers(element, values.data(), k, out);
    return;
  }
  const int64_t row_bytes = k * (part.format == WeightFormat::kFloat32 ? 4 : 2);
  const auto* from = static_cast<const std::byte*>(part.weight) + row * row_bytes;
  if (part.format == element) {
    std::memcpy(out, from, row_bytes);
    return;
  }
  LoadNumbers(part.format, from, k, values.data());
  StoreNumbers(element, values.data(), k, out);
}

/// Codes, scales and offsets of up to kTileRows rows.
struct CodeRows {
  CodeRows(absl::Span<const LinearPart> parts, absl::Span<const SourceRow> rows, bool has_offset)
      : num_groups(parts[rows[0].part].codes->num_groups()),
        group(parts[rows[0].part].codes->form().group),
        codes(rows.size() * parts[rows[0].part].codes->k()),
        scales(rows.size() * num_groups),
        offsets(has_offset ? scales.size() : 0) {
    ReadQuantizedRows(parts, rows, codes.data(), scales.data(),
                      has_offset ? offsets.data() : nullptr);
    for (size_t i = 0; i < rows.size(); ++i) {
      const float factor = FactorOfE2m1(parts[rows[i].part].codes->form().book);
      if (factor <= 1.0f) continue;
      for (int64_t g = 0; g < num_groups; ++g) scales[i * num_groups + g] *= factor;
    }
  }
  int64_t num_groups;
  int64_t group;
  std::vector<uint8_t> codes;
  std::vector<float> scales;
  std::vector<float> offsets;
};

/// [groups of the step][kTileRows] of one step of a tile.
void FillScales(const CodeLayout& layout, DType type, const std::vector<float>& scales,
                const CodeRows& rows, int32_t step, std::byte* out) {
  const auto num_rows = static_cast<int64_t>(scales.size()) / rows.num_groups;
  const auto size = static_cast<int64_t>(DTypeSize(type));
  for (int32_t g = 0; g < layout.groups(); ++g) {
    const int64_t column = int64_t{step} * layout.step_columns() +
                           (layout.groups() == 1 ? 0 : int64_t{g} * layout.group);
    const int64_t group = column / rows.group;
    if (group >= rows.num_groups) continue;
    for (int64_t r = 0; r < num_rows; ++r) {
      StoreScale(type, scales[r * rows.num_groups + group], out + (g * kTileRows + r) * size);
    }
  }
}

void FillTile(const CodeRows& rows, const LinearSegment& segment, int64_t k, std::byte* tile) {
  const CodeLayout layout = CodeLayoutOf(segment);
  const auto num_rows = static_cast<int32_t>(rows.codes.size() / k);
  const int32_t columns = layout.step_columns();
  for (int32_t step = 0; step < layout.steps(k); ++step, tile += layout.step_bytes()) {
    const auto width =
        static_cast<int32_t>(std::min<int64_t>(columns, k - int64_t{step} * columns));
    for (int32_t r = 0; r < num_rows; ++r) {
      const uint8_t* codes = rows.codes.data() + r * k + int64_t{step} * columns;
      for (int32_t c = 0; c < width; ++c) {
        const kernels::CodeSpot spot = kernels::SpotOfCode(layout.bits, r, c);
        const int code = layout.bits == 8 ? codes[c] ^ 0x80 : codes[c] << spot.shift;
        tile[spot.byte] |= static_cast<std::byte>(code);
      }
    }
    std::byte* scales = tile + kernels::kCodeBytes;
    FillScales(layout, segment.scale_type, rows.scales, rows, step, scales);
    if (!segment.has_offset) continue;
    FillScales(layout, segment.offset_type, rows.offsets, rows, step,
               scales + layout.scales_bytes());
  }
}

}  // namespace

CudaWeightKind CudaKindOf(const LinearSegment& segment) {
  if (!HasCodes(segment)) return CudaWeightKind::kRows;
  return segment.integer_input ? CudaWeightKind::kInt8Rows : CudaWeightKind::kTiles;
}

CudaWeightPlace PlaceOf(const LinearSegment& segment, int64_t k) {
  const int64_t n = segment.num_rows;
  CudaWeightPlace place;
  switch (CudaKindOf(segment)) {
    case CudaWeightKind::kRows:
      place.scales_begin = place.bytes = n * kernels::PlainRowBytes(k, 2);
      return place;
    case CudaWeightKind::kInt8Rows:
      place.scales_begin = AlignedForSegment(n * kernels::PlainRowBytes(k, 1));
      break;
    case CudaWeightKind::kTiles:
      place.scales_begin = AlignedForSegment(CodeLayoutOf(segment).bytes(n, k));
      break;
  }
  place.bytes = place.scales_begin + (segment.group == 0 ? n * sizeof(float) : 0);
  return place;
}

std::vector<LinearSegment> PlanCudaWeights(absl::Span<const LinearPart> parts, int64_t k,
                                           WeightFormat element, WorkerPool& pool) {
  CHECK(element == WeightFormat::kBFloat16 || element == WeightFormat::kFloat16);
  const std::vector<SourceRow> rows = RowsOfParts(parts);
  std::vector<LinearSegment> segments = ShapeSegments(parts);
  std::erase_if(segments, [](const LinearSegment& s) { return s.num_rows == 0; });
  size_t begin = 0;
  for (LinearSegment& segment : segments) {
    if (!HasCodes(segment)) {
      segment.format = element;
    } else {
      const auto own = absl::MakeConstSpan(rows).subspan(segment.row_begin, segment.num_rows);
      FindScaleTypes(parts, own, kTileRows, pool, segment);
      FitSegment(parts[own[0].part].codes->form(), k, element, segment);
    }
    segment.byte_begin = begin;
    begin = AlignedForSegment(begin + PlaceOf(segment, k).bytes);
  }
  return segments;
}

size_t CudaWeightBytes(absl::Span<const LinearSegment> segments, int64_t k) {
  return segments.empty() ? 0 : segments.back().byte_begin + PlaceOf(segments.back(), k).bytes;
}

void FillCudaWeights(absl::Span<const LinearPart> parts, int64_t k,
                     absl::Span<const LinearSegment> segments, WorkerPool& pool, std::byte* out) {
  const std::vector<SourceRow> all = RowsOfParts(parts);
  for (const LinearSegment& segment : segments) {
    const CudaWeightKind kind = CudaKindOf(segment);
    const CudaWeightPlace place = PlaceOf(segment, k);
    std::byte* base = out + segment.byte_begin;
    auto* row_scales = reinterpret_cast<float*>(base + place.scales_begin);
    const auto rows = absl::MakeConstSpan(all).subspan(segment.row_begin, segment.num_rows);
    const int64_t num_tiles = (segment.num_rows + kTileRows - 1) / kTileRows;
    pool.ParallelFor(num_tiles, [&](int64_t tile) {
      const int64_t first = tile * kTileRows;
      const auto some = rows.subspan(first, std::min<int64_t>(kTileRows, segment.num_rows - first));
      if (kind == CudaWeightKind::kRows) {
        std::vector<float> values(k);
        std::byte* to = base + first * kernels::PlainRowBytes(k, 2);
        for (const SourceRow& row : some) {
          FillRow(parts[row.part], row.row, k, segment.format, values, to);
          to += kernels::PlainRowBytes(k, 2);
        }
        return;
      }
      const CodeRows codes(parts, some, segment.has_offset);
      if (segment.group == 0)
        std::copy(codes.scales.begin(), codes.scales.end(), row_scales + first);
      if (kind == CudaWeightKind::kTiles) {
        const CodeLayout layout = CodeLayoutOf(segment);
        FillTile(codes, segment, k, base + tile * layout.steps(k) * layout.step_bytes());
        return;
      }
      std::byte* to = base + first * kernels::PlainRowBytes(k, 1);
      for (size_t r = 0; r < some.size(); ++r, to += kernels::PlainRowBytes(k, 1)) {
        std::transform(codes.codes.begin() + r * k, codes.codes.begin() + (r + 1) * k, to,
                       [](uint8_t code) { return static_cast<std::byte>(code ^ 0x80); });
      }
    });
  }
}

}  // namespace penstock
