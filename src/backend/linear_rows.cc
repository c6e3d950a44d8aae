#include "backend/linear_rows.h"

#include <mutex>
#include <optional>

#include "backend/quantized_rows.h"
#include "backend/scale_type.h"

namespace penstock {
namespace {

WeightFormat FormatOf(const LinearPart& part) {
  if (part.codes == nullptr) return part.format;
  return part.codes->form().bits == 4 ? WeightFormat::kCodes4 : WeightFormat::kCodes8;
}

bool Alike(const LinearPart& a, const LinearPart& b) {
  if (FormatOf(a) != FormatOf(b)) return false;
  return a.codes == nullptr ||
         (a.codes->form() == b.codes->form() && a.integer_input == b.integer_input);
}

}  // namespace

std::vector<SourceRow> RowsOfParts(absl::Span<const LinearPart> parts) {
  std::vector<SourceRow> rows;
  for (size_t p = 0; p < parts.size(); ++p) {
    for (int64_t r = 0; r < parts[p].rows; ++r) {
      rows.push_back({p, parts[p].order.empty() ? r : parts[p].order[r]});
    }
  }
  return rows;
}

void ReadQuantizedRows(absl::Span<const LinearPart> parts, absl::Span<const SourceRow> rows,
                       uint8_t* codes, float* scales, float* offsets) {
  size_t run = 1;
  for (size_t i = 0; i < rows.size(); i += run) {
    run = 1;
    while (i + run < rows.size() && rows[i + run].part == rows[i].part &&
           rows[i + run].row == rows[i].row + static_cast<int64_t>(run)) {
      ++run;
    }
    const QuantizedRows& matrix = *parts[rows[i].part].codes;
    const int64_t groups = static_cast<int64_t>(i) * matrix.num_groups();
    matrix.Read(rows[i].row, static_cast<int64_t>(run),
                codes == nullptr ? nullptr : codes + i * matrix.k(), scales + groups,
                offsets == nullptr ? nullptr : offsets + groups);
  }
}

void FindScaleTypes(absl::Span<const LinearPart> parts, absl::Span<const SourceRow> rows,
                    int64_t chunk, WorkerPool& pool, LinearSegment& segment) {
  bool known = true;
  for (const SourceRow& row : rows) {
    const std::optional<DType> type = parts[row.part].codes->scale_type();
    known &= type.has_value();
    segment.scale_type = type.value_or(segment.scale_type);
  }
  if (known) return;  // alike parts that know the type know the same
  const int64_t num_groups = parts[rows[0].part].codes->num_groups();
  const auto num_rows = static_cast<int64_t>(rows.size());
  ScaleType scale_type;
  ScaleType offset_type;
  std::mutex mutex;
  pool.ParallelFor((num_rows + chunk - 1) / chunk, [&](int64_t i) {
    const auto part = rows.subspan(i * chunk, std::min(chunk, num_rows - i * chunk));
    std::vector<float> scales(part.size() * num_groups);
    std::vector<float> offsets(segment.has_offset ? scales.size() : 0);
    ReadQuantizedRows(parts, part, nullptr, scales.data(),
                      segment.has_offset ? offsets.data() : nullptr);
    ScaleType chunk_scales;
    ScaleType chunk_offsets;
    chunk_scales.Add(scales);
    chunk_offsets.Add(offsets);
    const std::scoped_lock lock(mutex);
    scale_type.Add(chunk_scales);
    offset_type.Add(chunk_offsets);
  });
  segment.scale_type = scale_type.Get();
  segment.offset_type = offset_type.Get();
}

std::vector<LinearSegment> ShapeSegments(absl::Span<const LinearPart> parts) {
  std::vector<LinearSegment> segments;
  int64_t row = 0;
  for (size_t p = 0; p < parts.size(); ++p) {
    const LinearPart& part = parts[p];
    if (p == 0 || !Alike(parts[p - 1], part)) {
      LinearSegment segment;
      segment.format = FormatOf(part);
      segment.row_begin = row;
      if (part.codes != nullptr) {
        const QuantizedForm& form = part.codes->form();
        segment.group = form.group;
        segment.center = form.center;
        segment.has_book = !form.book.empty();
        segment.has_column_order = !form.column_order.empty();
        segment.has_offset = form.has_offset;
        segment.integer_input = part.integer_input;
      }
      segments.push_back(segment);
    }
    segments.back().num_rows += part.rows;
    row += part.rows;
  }
  return segments;
}

}  // namespace penstock
