#include "backend/cpu/pack_linear.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "backend/linear_rows.h"
#include "backend/quantized_rows.h"
#include "backend/scale_type.h"

namespace penstock {
namespace {

/// codes [num_rows, k] -> [units, panel_rows, kUnitBytes] with gaps between groups; the panel is
/// zero.
template <int kBits>
void PackCodes(absl::Span<const uint8_t> codes, int64_t k, int64_t group, int64_t panel_rows,
               int64_t group_gap, uint8_t* panel) {
  constexpr int64_t kBlock = 64;  // k per pass over the rows: reads whole cache lines
  const int64_t num_rows = static_cast<int64_t>(codes.size()) / k;
  for (int64_t begin = 0; begin < k; begin += kBlock) {
    const int64_t end = std::min(k, begin + kBlock);
    for (int64_t row = 0; row < num_rows; ++row) {
      const uint8_t* in = codes.data() + row * k;
      int64_t gap = begin / group * group_gap;
      int64_t group_end = (begin / group + 1) * group;
      for (int64_t i = begin; i < end; ++i) {
        if (i == group_end) {
          gap += group_gap;
          group_end += group;
        }
        const CodePlace place = PlaceOfCode(kBits, i);
        uint8_t& out = panel[(place.unit * panel_rows + row) * kUnitBytes + place.shift / 8 + gap];
        out = static_cast<uint8_t>(out | in[i] << place.shift % 8);
      }
    }
  }
}

/// scales [num_rows, num_groups] -> [num_groups, num_rows], groups `stride` bytes apart
void PackScales(DType type, absl::Span<const float> scales, int64_t num_groups, int64_t stride,
                char* panel) {
  const auto size = static_cast<int64_t>(DTypeSize(type));
  for (size_t i = 0; i < scales.size(); ++i) {
    const auto row = static_cast<int64_t>(i) / num_groups;
    const auto group = static_cast<int64_t>(i) % num_groups;
    StoreScale(type, scales[i], panel + group * stride + row * size);
  }
}

size_t Aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

bool IsCodes(WeightFormat format) {
  return format == WeightFormat::kCodes4 || format == WeightFormat::kCodes8;
}

void FillCodePanel(absl::Span<const LinearPart> parts, absl::Span<const SourceRow> rows,
                   const LinearSegment& segment, const SegmentLayout& layout, int64_t panel_rows,
                   char* panel) {
  const QuantizedRows& matrix = *parts[rows[0].part].codes;
  std::vector<uint8_t> codes(rows.size() * matrix.k());
  std::vector<float> scales(rows.size() * matrix.num_groups());
  std::vector<float> offsets(segment.has_offset ? scales.size() : 0);
  ReadQuantizedRows(parts, rows, codes.data(), scales.data(),
                    segment.has_offset ? offsets.data() : nullptr);
  const auto pack = matrix.form().bits == 4 ? PackCodes<4> : PackCodes<8>;
  pack(codes, matrix.k(), matrix.form().group, panel_rows, layout.group_gap,
       reinterpret_cast<uint8_t*>(panel + layout.codes_begin));
  PackScales(segment.scale_type, scales, matrix.num_groups(), layout.scales_stride, panel);
  PackScales(segment.offset_type, offsets, matrix.num_groups(), layout.offsets_stride,
             panel + layout.offsets_begin);
}

}  // namespace

SegmentLayout::SegmentLayout(const LinearSegment& segment, int64_t k, int64_t panel_rows) {
  num_panels = (segment.num_rows + panel_rows - 1) / panel_rows;
  if (!IsCodes(segment.format)) {
    const int64_t columns = segment.format == WeightFormat::kBFloat16 ? (k + 1) / 2 * 2 : k;
    panel_bytes = panel_rows * columns * (segment.format == WeightFormat::kFloat32 ? 4 : 2);
    bytes = num_panels * panel_bytes;
    return;
  }
  const bool paired = segment.format == WeightFormat::kCodes4;
  if (segment.has_book) order_begin = (paired ? 16 : 256) * sizeof(float);
  panels_begin = order_begin;
  if (segment.has_column_order) panels_begin += Aligned(k * sizeof(int32_t));
  const int bits = paired ? 4 : 8;
  const int64_t num_groups = (k + segment.group - 1) / segment.group;
  const int64_t codes_bytes = CodeUnits(bits, k) * panel_rows * kUnitBytes;
  scales_stride = panel_rows * static_cast<int64_t>(DTypeSize(segment.scale_type));
  offsets_stride =
      segment.has_offset ? panel_rows * static_cast<int64_t>(DTypeSize(segment.offset_type)) : 0;
  const int64_t head = scales_stride + offsets_stride;  // of a group
  panel_bytes = Aligned(codes_bytes + num_groups * head);
  if (segment.group % UnitColumns(bits) == 0) {
    const int64_t codes_of_group = segment.group / UnitColumns(bits) * panel_rows * kUnitBytes;
    offsets_begin = scales_stride;
    codes_begin = head;
    group_gap = head;
    scales_stride = offsets_stride = head + codes_of_group;
  } else {
    offsets_begin = num_groups * scales_stride;
    codes_begin = num_groups * head;
  }
  bytes = panels_begin + num_panels * panel_bytes;
}

size_t PlaceSegments(int64_t k, const KernelChoice& kernels, std::vector<LinearSegment>& segments) {
  size_t begin = 0;
  size_t bytes = 0;
  for (LinearSegment& segment : segments) {
    segment.byte_begin = begin;
    bytes = begin + SegmentLayout(segment, k, kernels.Of(segment).panel_rows).bytes;
    begin = Aligned(bytes);
  }
  return bytes;
}

std::vector<LinearSegment> PlanSegments(absl::Span<const LinearPart> parts,
                                        const KernelChoice& kernels, WorkerPool& pool) {
  const std::vector<SourceRow> rows = RowsOfParts(parts);
  std::vector<LinearSegment> segments = ShapeSegments(parts);
  for (LinearSegment& segment : segments) {
    if (!IsCodes(segment.format) || segment.num_rows == 0) continue;
    FindScaleTypes(parts, absl::MakeConstSpan(rows).subspan(segment.row_begin, segment.num_rows),
                   kernels.Of(segment).panel_rows, pool, segment);
  }
  return segments;
}

void FillPanels(absl::Span<const LinearPart> parts, const KernelChoice& choice, WorkerPool& pool,
                PackedLinear& packed) {
  const std::vector<SourceRow> all = RowsOfParts(parts);
  const int64_t k = packed.k;
  for (const LinearSegment& segment : packed.segments) {
    const CpuKernels& kernels = choice.Of(segment);
    const SegmentLayout layout(segment, k, kernels.panel_rows);
    char* base = static_cast<char*>(packed.weight.data()) + segment.byte_begin;
    const auto rows = absl::MakeConstSpan(all).subspan(segment.row_begin, segment.num_rows);
    const bool codes = IsCodes(segment.format) && !rows.empty();
    if (codes) {
      const QuantizedForm& form = parts[rows[0].part].codes->form();
      std::copy(form.book.begin(), form.book.end(), reinterpret_cast<float*>(base));
      std::copy(form.column_order.begin(), form.column_order.end(),
                reinterpret_cast<int32_t*>(base + layout.order_begin));
    }
    pool.ParallelFor(layout.num_panels, [&](int64_t panel) {
      const auto panel_rows =
          rows.subspan(panel * kernels.panel_rows,
                       std::min(kernels.panel_rows, segment.num_rows - panel * kernels.panel_rows));
      char* out = base + layout.panels_begin + panel * layout.panel_bytes;
      if (codes) {
        FillCodePanel(parts, panel_rows, segment, layout, kernels.panel_rows, out);
        return;
      }
      const int64_t row_bytes = k * (segment.format == WeightFormat::kFloat32 ? 4 : 2);
      std::vector<const void*> weights;
      for (const SourceRow& row : panel_rows) {
        weights.push_back(static_cast<const char*>(parts[row.part].weight) + row.row * row_bytes);
      }
      kernels.pack_panel(segment.format, weights.data(), static_cast<int64_t>(weights.size()), k,
                         out);
    });
  }
}

}  // namespace penstock
