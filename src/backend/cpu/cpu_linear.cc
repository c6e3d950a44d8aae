#include <algorithm>
#include <cstring>

#include "backend/cpu/cpu_ops.h"
#include "base/half.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

constexpr int64_t kTileProducts = 64 * 1024;  // multiply-adds of a linear layer's tile, at least
constexpr int64_t kTileRows = 96;             // of x in one tile of a linear layer

bool IsOfCodes(const LinearSegment& segment) {
  return segment.format == WeightFormat::kCodes4 || segment.format == WeightFormat::kCodes8;
}

/// Panel `panel` of a segment whose bytes begin at `base`.
CodePanel CodesAt(const LinearSegment& segment, const SegmentLayout& layout, const char* base,
                  int64_t panel) {
  const char* begin = base + layout.panels_begin + panel * layout.panel_bytes;
  CodePanel codes;
  codes.codes = begin + layout.codes_begin;
  codes.scales = begin;
  codes.offsets = segment.has_offset ? begin + layout.offsets_begin : nullptr;
  codes.scales_stride = layout.scales_stride;
  codes.offsets_stride = layout.offsets_stride;
  codes.group_gap = layout.group_gap;
  codes.scale_type = segment.scale_type;
  codes.offset_type = segment.offset_type;
  codes.book = segment.has_book ? reinterpret_cast<const float*>(base) : nullptr;
  codes.center = segment.center;
  codes.group = segment.group;
  return codes;
}

float ScaleAt(DType type, const void* scales, int64_t i) {
  const auto* p = static_cast<const char*>(scales) + i * static_cast<int64_t>(DTypeSize(type));
  if (type == DType::kFloat8E8M0) {
    return std::bit_cast<float>(uint32_t{static_cast<uint8_t>(*p)} << 23);
  }
  if (type == DType::kFloat32) {
    float f;
    std::memcpy(&f, p, sizeof f);
    return f;
  }
  uint16_t h;
  std::memcpy(&h, p, sizeof h);
  return type == DType::kBFloat16 ? Bf16ToFloat(h) : Fp16ToFloat(h);
}

/// Row `row` of a panel: k values in the order of the codes' columns.
void UnpackRow(const CodePanel& a, bool paired, int64_t row, int64_t panel_rows, int64_t k,
               float* out) {
  const int bits = paired ? 4 : 8;
  const auto* codes = static_cast<const uint8_t*>(a.codes) + row * kUnitBytes;
  float scale = 0;
  float offset = 0;
  for (int64_t c = 0; c < k; ++c) {
    const int64_t group = c / a.group;
    if (c % a.group == 0) {
      scale =
          ScaleAt(a.scale_type, static_cast<const char*>(a.scales) + group * a.scales_stride, row);
      if (a.offsets != nullptr) {
        offset = ScaleAt(a.offset_type,
                         static_cast<const char*>(a.offsets) + group * a.offsets_stride, row);
      }
    }
    const CodePlace place = PlaceOfCode(bits, c);
    const uint8_t byte =
        codes[place.unit * panel_rows * kUnitBytes + place.shift / 8 + group * a.group_gap];
    const int code = paired ? byte >> place.shift % 8 & 15 : byte;
    out[c] = scale * (a.book == nullptr ? static_cast<float>(code - a.center) : a.book[code]);
    if (a.offsets != nullptr) out[c] += offset;
  }
}

/// values [k]: row `row` of a layer of codes.
void LookUp(const PackedLinear& w, int64_t row, const KernelChoice& choice, float* values) {
  const auto next =
      std::upper_bound(w.segments.begin(), w.segments.end(), row,
                       [](int64_t r, const LinearSegment& s) { return r < s.row_begin; });
  const LinearSegment& segment = *(next - 1);
  CHECK(IsOfCodes(segment));
  const int64_t panel_rows = choice.Of(segment).panel_rows;
  const SegmentLayout layout(segment, w.k, panel_rows);
  const char* base = static_cast<const char*>(w.weight.data()) + segment.byte_begin;
  const int64_t within = row - segment.row_begin;
  float* out = segment.has_column_order ? values + w.k : values;
  UnpackRow(CodesAt(segment, layout, base, within / panel_rows),
            segment.format == WeightFormat::kCodes4, within % panel_rows, panel_rows, w.k, out);
  if (!segment.has_column_order) return;
  const auto* order = reinterpret_cast<const int32_t*>(base + layout.order_begin);
  for (int64_t c = 0; c < w.k; ++c) values[order[c]] = out[c];
}

}  // namespace

QuantizeRowArgs QuantizedRowsBuffer::Reserve(int64_t columns, int64_t groups) {
  if (static_cast<int64_t>(q_.size()) < columns) {
    q_.resize(columns);
    words_.resize(columns);
  }
  if (static_cast<int64_t>(scales_.size()) < groups) {
    scales_.resize(groups);
    sums_.resize(groups);
    starts_.resize(groups);
  }
  QuantizeRowArgs first;
  first.q = q_.data();
  first.words = words_.data();
  first.scales = scales_.data();
  first.sums = sums_.data();
  first.starts = starts_.data();
  return first;
}

bool CpuIsBf16(DType dtype) {
  CHECK(dtype == DType::kBFloat16 || dtype == DType::kFloat32);
  return dtype == DType::kBFloat16;
}

float* CpuThreadScratch(int64_t floats) {
  thread_local std::vector<float> scratch;
  if (static_cast<int64_t>(scratch.size()) < floats + 16) scratch.resize(floats + 16);
  const auto address = reinterpret_cast<uintptr_t>(scratch.data());
  return scratch.data() + ((64 - address % 64) % 64) / sizeof(float);
}

void CpuOps::Embed(const EmbedArgs& a) {
  const bool to_bf16 = CpuIsBf16(a.y.dtype);
  ForRows(a.y.rows, a.y.cols, [&](int64_t r) {
    if (a.packed == nullptr) {
      kernels_.convert_row(a.table.dtype, a.table.row(a.ids[r]), to_bf16, a.y.row(r), a.y.cols,
                           a.scale, a.accumulate);
      return;
    }
    float* values = CpuThreadScratch(2 * a.packed->k);
    LookUp(*a.packed, a.ids[r], choice_, values);
    kernels_.convert_row(DType::kFloat32, values, to_bf16, a.y.row(r), a.y.cols, a.scale,
                         a.accumulate);
  });
}

const float* CpuOps::Widen(const Tensor& x, int64_t& stride) {
  if (x.dtype == DType::kFloat32) {
    stride = x.stride;
    return static_cast<const float*>(x.data);
  }
  stride = x.cols;
  if (static_cast<int64_t>(widened_.size()) < x.rows * x.cols) widened_.resize(x.rows * x.cols);
  ForRows(x.rows, x.cols, [&](int64_t r) {
    kernels_.convert_row(x.dtype, x.row(r), false, widened_.data() + r * x.cols, x.cols, 1.0f,
                         false);
  });
  return widened_.data();
}

bool CpuOps::TakesBf16(const LinearSegment& segment, DType inputs) const {
  return choice_.bf16_products && inputs == DType::kBFloat16 &&
         segment.format == WeightFormat::kBFloat16;
}

int64_t CpuOps::FindRuns(const LinearArgs& a) {
  const PackedLinear& w = *a.w;
  int64_t stride = 0;
  const bool as_floats =
      !std::all_of(w.segments.begin(), w.segments.end(),
                   [&](const LinearSegment& s) { return TakesBf16(s, a.x.dtype); });
  const float* x = as_floats ? Widen(a.x, stride) : nullptr;
  const int64_t m = a.x.rows;
  int64_t num_panels = 0;
  int64_t num_ordered = 0;
  runs_.clear();
  for (const LinearSegment& segment : w.segments) {
    runs_.push_back({&segment,
                     SegmentLayout(segment, w.k, choice_.Of(segment).panel_rows),
                     num_panels,
                     x,
                     stride,
                     {}});
    num_panels += runs_.back().layout.num_panels;
    num_ordered += segment.has_column_order ? 1 : 0;
  }
  if (static_cast<int64_t>(reordered_.size()) < num_ordered * m * w.k) {
    reordered_.resize(num_ordered * m * w.k);
  }
  float* reordered = reordered_.data();
  for (SegmentRun& run : runs_) {
    if (!run.segment->has_column_order) continue;
    const auto* order =
        reinterpret_cast<const int32_t*>(static_cast<const char*>(w.weight.data()) +
                                         run.segment->byte_begin + run.layout.order_begin);
    ForRows(m, w.k, [&](int64_t r) {
      for (int64_t c = 0; c < w.k; ++c) reordered[r * w.k + c] = x[r * stride + order[c]];
    });
    run.x = reordered;
    run.x_stride = w.k;
    reordered += m * w.k;
  }
  return num_panels;
}

void CpuOps::QuantizeInputs(int64_t m, int64_t k) {
  const int64_t stride = (k + 7) / 8 * 8;
  int64_t num_inputs = 0;
  int64_t num_groups = 0;
  const auto groups_of = [k](const LinearSegment& s) { return (k + s.group - 1) / s.group; };
  for (const SegmentRun& run : runs_) {
    if (!run.segment->integer_input) continue;
    ++num_inputs;
    num_groups += groups_of(*run.segment);
  }
  if (num_inputs == 0) return;
  QuantizeRowArgs row = inputs_.Reserve(num_inputs * m * stride, num_groups * m);
  row.k = k;
  row.stride = stride;
  for (SegmentRun& run : runs_) {
    if (!run.segment->integer_input) continue;
    const int64_t of_row = groups_of(*run.segment);
    row.group = run.segment->group;
    row.center = run.segment->center;
    const CpuKernels& kernels = *choice_.integers;
    const bool words = kernels.word_inputs && run.segment->format == WeightFormat::kCodes8;
    run.input = {
        row.q, stride, row.scales, row.sums, row.starts, of_row, words ? row.words : nullptr};
    ForRows(m, k, [&](int64_t r) {
      QuantizeRowArgs one = row;
      one.x = run.x + r * run.x_stride;
      one.q += r * stride;
      one.words = words ? one.words + r * stride : nullptr;
      one.scales += r * of_row;
      one.sums += r * of_row;
      one.starts += r * of_row;
      kernels.quantize_row(one);
    });
    row.q += m * stride;
    row.words += m * stride;
    row.scales += m * of_row;
    row.sums += m * of_row;
    row.starts += m * of_row;
  }
}

void CpuOps::LinearTile(const LinearArgs& a, GemmPanelArgs p, int64_t row, int64_t begin,
                        int64_t end) {
  const PackedLinear& w = *a.w;
  const int64_t max_panel_rows = choice_.max_panel_rows();
  const auto element = static_cast<int64_t>(DTypeSize(a.y.dtype));
  const auto* bias = static_cast<const float*>(w.bias.data());
  p.weights = CpuThreadScratch((kGemmDepth + p.m) * max_panel_rows);
  p.sums = p.weights + kGemmDepth * max_panel_rows;
  size_t i = 0;
  for (int64_t panel = begin; panel < end; ++panel) {
    while (panel >= runs_[i].first_panel + runs_[i].layout.num_panels) ++i;
    const SegmentRun& run = runs_[i];
    const LinearSegment& segment = *run.segment;
    const CpuKernels& kernels = choice_.Of(segment);
    const int64_t panel_rows = kernels.panel_rows;
    const char* base = static_cast<const char*>(w.weight.data()) + segment.byte_begin;
    const int64_t within = panel - run.first_panel;
    const int64_t column = segment.row_begin + within * panel_rows;
    p.format = segment.format;
    const bool halves = TakesBf16(segment, a.x.dtype);
    p.x = halves ? nullptr : run.x + row * run.x_stride;
    p.x_stride = run.x_stride;
    p.x_bf16 = halves ? reinterpret_cast<const uint16_t*>(a.x.row(row)) : nullptr;
    p.x_bf16_stride = a.x.stride;
    p.input = run.input;
    if (p.input.q != nullptr) {
      p.input.q += row * p.input.stride;
      p.input.scales += row * p.input.num_groups;
      p.input.sums += row * p.input.num_groups;
      p.input.starts += row * p.input.num_groups;
      if (p.input.words != nullptr) p.input.words += row * p.input.stride;
    }
    if (IsOfCodes(segment)) {
      p.codes = CodesAt(segment, run.layout, base, within);
    } else {
      p.panel = base + within * run.layout.panel_bytes;
    }
    p.n = std::min(panel_rows, segment.num_rows - within * panel_rows);
    p.bias = bias == nullptr ? nullptr : bias + column;
    p.y = a.y.row(row) + column * element;
    kernels.gemm_panel(p);
  }
}

void CpuOps::Linear(const LinearArgs& a) {
  GemmPanelArgs common;
  common.k = a.w->k;
  common.scale = a.scale;
  common.soft_cap = a.soft_cap;
  common.accumulate = a.accumulate;
  common.bf16 = CpuIsBf16(a.y.dtype);
  common.y_stride = a.y.stride;

  // A tile is a run of panels for a run of rows: one thread reads the run's weights as one stream.
  const int64_t num_panels = FindRuns(a);
  QuantizeInputs(a.x.rows, a.w->k);
  const int64_t num_row_tiles = (a.x.rows + kTileRows - 1) / kTileRows;
  const int64_t rows_per_tile =
      num_row_tiles == 0 ? 0 : (a.x.rows + num_row_tiles - 1) / num_row_tiles;
  const int64_t panel_products = rows_per_tile * choice_.max_panel_rows() * common.k;
  const int64_t worth = std::max<int64_t>(1, kTileProducts / std::max<int64_t>(1, panel_products));
  const int64_t even = num_panels * num_row_tiles / (8 * pool_->num_threads());
  const int64_t panels_per_tile = std::clamp<int64_t>(even, worth, std::max(worth, int64_t{8}));
  const int64_t num_panel_tiles = (num_panels + panels_per_tile - 1) / panels_per_tile;
  pool_->ParallelFor(num_panel_tiles * num_row_tiles, [&](int64_t tile) {
    const int64_t row = tile % num_row_tiles * rows_per_tile;
    const int64_t first = tile / num_row_tiles * panels_per_tile;
    GemmPanelArgs p = common;
    p.m = std::min(rows_per_tile, a.x.rows - row);
    LinearTile(a, p, row, first, std::min(num_panels, first + panels_per_tile));
  });
}

}  // namespace penstock
