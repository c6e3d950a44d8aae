#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/scale_type.h"
#include "base/half.h"

namespace penstock {
namespace {

/// Numbers in (-1, 1) that need no library.
float Pseudo(uint32_t& state) {
  state = state * 1664525u + 1013904223u;
  return static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
}

bool Close(const std::vector<float>& got, const std::vector<double>& expected, double tolerance) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    error += (got[i] - expected[i]) * (got[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return error <= tolerance * tolerance * norm;  // false where anything is NaN
}

bool LinearAgrees(const CpuKernels& kernels, WeightFormat format, bool bf16_inputs = false) {
  constexpr int64_t kRows = 23;
  constexpr int64_t kDepth = kGemmDepth + 45;
  const int64_t n = kernels.panel_rows - 3;
  uint32_t state = 1;
  std::vector<float> x(kRows * kDepth), w(n * kDepth), y(kRows * n);
  for (float& v : x) v = Pseudo(state);
  for (float& v : w) v = Bf16ToFloat(FloatToBf16(Pseudo(state)));
  std::vector<uint16_t> halves(w.size());
  std::transform(w.begin(), w.end(), halves.begin(), [&](float v) {
    return format == WeightFormat::kFloat16 ? FloatToFp16(v) : FloatToBf16(v);
  });
  std::vector<const void*> rows;
  for (int64_t r = 0; r < n; ++r) {
    rows.push_back(format == WeightFormat::kFloat32 ? static_cast<const void*>(&w[r * kDepth])
                                                    : &halves[r * kDepth]);
  }
  std::vector<float> panel(kernels.panel_rows * (kDepth + 1)),
      sums(kRows * kernels.panel_rows + 16);
  kernels.pack_panel(format, rows.data(), n, kDepth, panel.data());
  GemmPanelArgs a;
  a.format = format;
  a.x = x.data();
  a.x_stride = kDepth;
  std::vector<uint16_t> x_bf16(x.size());
  if (bf16_inputs) {
    std::transform(x.begin(), x.end(), x_bf16.begin(), FloatToBf16);
    std::transform(x_bf16.begin(), x_bf16.end(), x.begin(), Bf16ToFloat);
    a.x = nullptr;
    a.x_bf16 = x_bf16.data();
    a.x_bf16_stride = kDepth;
  }
  a.m = kRows;
  a.k = kDepth;
  a.panel = panel.data();
  a.sums = sums.data();
  a.y = y.data();
  a.y_stride = n;
  a.n = n;
  kernels.gemm_panel(a);
  std::vector<double> expected(kRows * n);
  for (int64_t m = 0; m < kRows; ++m) {
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t k = 0; k < kDepth; ++k)
        expected[m * n + i] += double{x[m * kDepth + k]} * w[i * kDepth + k];
    }
  }
  return Close(y, expected, format == WeightFormat::kFloat16 ? 1e-3 : 1e-5);
}

/// Scales of `type`, of about 1: the stored bytes and what they stand for.
std::vector<char> SomeScales(DType type, uint32_t& state, std::vector<float>& values) {
  const size_t size = DTypeSize(type);
  std::vector<char> stored(values.size() * size);
  for (size_t i = 0; i < values.size(); ++i) {
    const float v = Pseudo(state);
    values[i] = type == DType::kFloat32    ? v
                : type == DType::kFloat16  ? Fp16ToFloat(FloatToFp16(v))
                : type == DType::kBFloat16 ? Bf16ToFloat(FloatToBf16(v))
                                           : std::ldexp(1.0f, static_cast<int>(4 * v));
    StoreScale(type, values[i], stored.data() + i * size);
  }
  return stored;
}

int CodeAt(const uint8_t* codes, int bits, int64_t row, int64_t panel_rows, int64_t k) {
  const CodePlace place = PlaceOfCode(bits, k);
  const uint8_t byte = codes[(place.unit * panel_rows + row) * kUnitBytes + place.shift / 8];
  return byte >> place.shift % 8 & ((1 << bits) - 1);
}

/// All codes of a panel less `center`, [panel_rows, k].
std::vector<int> CodesOf(const std::vector<uint8_t>& panel, int bits, int64_t panel_rows, int64_t k,
                         int center) {
  std::vector<int> codes(panel_rows * k);
  for (int64_t c = 0; c < k; ++c) {
    for (int64_t row = 0; row < panel_rows; ++row)
      codes[row * k + c] = CodeAt(panel.data(), bits, row, panel_rows, c) - center;
  }
  return codes;
}

/// A short last group, and groups that are cut by the kernel's passes over k.
bool CodesAgree(const CpuKernels& kernels, WeightFormat format, DType scale_type, bool with_book) {
  constexpr int64_t kRows = 7;
  constexpr int64_t kColumns = kGemmDepth + 77;
  constexpr int64_t kGroup = 48;
  constexpr int64_t kNumGroups = (kColumns + kGroup - 1) / kGroup;
  const bool paired = format == WeightFormat::kCodes4;
  const int bits = paired ? 4 : 8;
  const int64_t n = kernels.panel_rows;
  uint32_t state = 7;
  std::vector<float> x(kRows * kColumns), y(kRows * n), book(paired ? 16 : 256);
  for (float& v : x) v = Pseudo(state);
  for (float& v : book) v = Pseudo(state);
  std::vector<uint8_t> codes(CodeUnits(bits, kColumns) * n * kUnitBytes);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(Pseudo(state) * 128 + 128);
  std::vector<float> scales(kNumGroups * n), offsets(kNumGroups * n);
  const std::vector<char> stored_scales = SomeScales(scale_type, state, scales);
  const std::vector<char> stored_offsets = SomeScales(scale_type, state, offsets);
  std::vector<float> scratch((kGemmDepth + kRows) * n + 16);
  GemmPanelArgs a;
  a.format = format;
  a.x = x.data();
  a.x_stride = kColumns;
  a.m = kRows;
  a.k = kColumns;
  a.codes.codes = codes.data();
  a.codes.scales = stored_scales.data();
  a.codes.offsets = stored_offsets.data();
  a.codes.scales_stride = n * static_cast<int64_t>(DTypeSize(scale_type));
  a.codes.offsets_stride = a.codes.scales_stride;
  a.codes.scale_type = scale_type;
  a.codes.offset_type = scale_type;
  a.codes.book = with_book ? book.data() : nullptr;
  a.codes.center = 3;
  a.codes.group = kGroup;
  a.weights = scratch.data();
  a.sums = scratch.data() + kGemmDepth * n;
  a.y = y.data();
  a.y_stride = n;
  a.n = n;
  kernels.gemm_panel(a);
  std::vector<double> expected(kRows * n);
  const std::vector<int> all = CodesOf(codes, bits, n, kColumns, 0);
  for (int64_t row = 0; row < n; ++row) {
    double sums[kRows] = {};
    for (int64_t k = 0; k < kColumns; ++k) {
      const int code = all[row * kColumns + k];
      const int64_t at = k / kGroup * n + row;
      const double number = with_book ? double{book[code]} : code - 3.0;
      const double weight = scales[at] * number + offsets[at];
      for (int64_t m = 0; m < kRows; ++m) sums[m] += x[m * kColumns + k] * weight;
    }
    for (int64_t m = 0; m < kRows; ++m) expected[m * n + row] = sums[m];
  }
  return Close(y, expected, 1e-5);
}

bool AllCodesAgree(const CpuKernels& kernels) {
  for (const DType type :
       {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat8E8M0}) {
    for (const bool book : {false, true}) {
      if (!CodesAgree(kernels, WeightFormat::kCodes4, type, book) ||
          !CodesAgree(kernels, WeightFormat::kCodes8, type, book)) {
        return false;
      }
    }
  }
  return true;
}

/// A group of x as 8-bit integers.
struct RoundedGroup {
  RoundedGroup(const float* x, int64_t size) : numbers(size) {
    float amax = 0;
    for (int64_t k = 0; k < size; ++k) amax = std::max(amax, std::fabs(x[k]));
    for (int64_t k = 0; k < size; ++k) {
      numbers[k] = static_cast<int>(std::nearbyint(x[k] * (127.0f / amax)));
      sum += numbers[k];
    }
    scale = amax / 127.0f;
  }
  std::vector<int> numbers;
  int sum = 0;
  float scale = 0;
};

/// y [n] of one row of x [k]: `codes` [n, k] less their center, scales and offsets [num_groups, n].
void MultiplyRow(const float* x, int64_t k, int64_t group, const std::vector<int>& codes,
                 const std::vector<float>& scales, const std::vector<float>& offsets,
                 absl::Span<float> y) {
  std::fill(y.begin(), y.end(), 0.0f);
  for (int64_t begin = 0; begin < k; begin += group) {
    const int64_t size = std::min(k - begin, group);
    const RoundedGroup rounded(x + begin, size);
    for (size_t i = 0; i < y.size(); ++i) {
      const int* of_row = &codes[i * k + begin];
      int products = 0;
      for (int64_t c = 0; c < size; ++c) products += rounded.numbers[c] * of_row[c];
      const size_t at = begin / group * y.size() + i;
      y[i] = std::fma(static_cast<float>(products) * rounded.scale, scales[at], y[i]);
      y[i] = std::fma(static_cast<float>(rounded.sum) * rounded.scale, offsets[at], y[i]);
    }
  }
}

/// Bit for bit, at the ends of the codes' range, with a short last group, over several blocks of
/// columns, for one row and many.
bool IntegersAgree(const CpuKernels& kernels, int bits, int64_t group, int64_t gap) {
  constexpr int64_t kRows = 23;
  constexpr int64_t kColumns = 1099;
  constexpr int64_t kStride = 1104;
  const int64_t num_groups = (kColumns + group - 1) / group;
  const int64_t n = kernels.panel_rows;
  uint32_t state = 8;
  std::vector<float> x(kRows * kColumns), scales(num_groups * n), offsets(num_groups * n);
  for (float& v : x) v = Pseudo(state) > 0.9f ? 0.0f : 3 * Pseudo(state);
  for (float& v : scales) v = Pseudo(state);
  for (float& v : offsets) v = Pseudo(state);
  std::vector<uint8_t> codes(CodeUnits(bits, kColumns) * n * kUnitBytes);
  for (uint8_t& code : codes) {
    code = Pseudo(state) > 0.8f ? 0 : static_cast<uint8_t>(Pseudo(state) * 128 + 128);
  }
  std::vector<uint8_t> spread(codes.size() + num_groups * gap);
  const int64_t group_bytes = CodeUnits(bits, group) * n * kUnitBytes;
  for (size_t i = 0; i < codes.size(); ++i) spread[i + i / group_bytes * gap] = codes[i];
  std::vector<int8_t> q(kRows * kStride);
  std::vector<float> x_scales(kRows * num_groups), sums(kRows * n + 16);
  std::vector<int32_t> x_sums(kRows * num_groups), starts(kRows * num_groups);
  std::vector<int16_t> words(kRows * kStride);
  std::vector<float> y(kRows * n), expected(kRows * n);
  GemmPanelArgs a;
  a.format = bits == 4 ? WeightFormat::kCodes4 : WeightFormat::kCodes8;
  a.k = kColumns;
  a.codes.codes = spread.data();
  a.codes.group_gap = gap;
  a.codes.scales = scales.data();
  a.codes.offsets = offsets.data();
  a.codes.scales_stride = n * static_cast<int64_t>(sizeof(float));
  a.codes.offsets_stride = a.codes.scales_stride;
  a.codes.center = bits == 4 ? 8 : 128;
  a.codes.group = group;
  a.input = {q.data(),      kStride,    x_scales.data(), x_sums.data(),
             starts.data(), num_groups, words.data()};
  a.sums = sums.data();
  a.y = y.data();
  a.y_stride = n;
  a.n = n;
  const std::vector<int> all = CodesOf(codes, bits, n, kColumns, a.codes.center);
  for (int64_t r = 0; r < kRows; ++r) {
    kernels.quantize_row({&x[r * kColumns], kColumns, group, &q[r * kStride], kStride,
                          &x_scales[r * num_groups], &x_sums[r * num_groups],
                          &starts[r * num_groups], a.codes.center, &words[r * kStride]});
    MultiplyRow(&x[r * kColumns], kColumns, group, all, scales, offsets,
                absl::MakeSpan(expected).subspan(r * n, n));
  }
  for (const int64_t m : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{7}, int64_t{17}, kRows}) {
    std::fill(y.begin(), y.end(), NAN);
    a.m = m;
    kernels.gemm_panel(a);
    if (!std::equal(y.begin(), y.begin() + m * n, expected.begin())) return false;
  }
  return true;
}

bool AllIntegersAgree(const CpuKernels& kernels) {
  for (const int bits : {4, 8}) {
    for (const int64_t group : {32, 128, 320, 1099}) {
      const int64_t gap = group == 128 ? 0 : 64;
      if (!IntegersAgree(kernels, bits, group, gap)) return false;
    }
  }
  return true;
}

bool NormAndGateAgree(const CpuKernels& kernels) {
  constexpr int64_t kSize = 77;
  uint32_t state = 2;
  std::vector<float> x(kSize), w(kSize), y(kSize);
  for (float& v : x) v = 3 * Pseudo(state);
  for (float& v : w) v = Pseudo(state);
  double squares = 0;
  for (const float v : x) squares += double{v} * v;
  std::vector<double> norm(kSize), gated(kSize);
  for (int64_t i = 0; i < kSize; ++i) {
    norm[i] = x[i] / std::sqrt(squares / kSize + 1e-5) * w[i];
    gated[i] = x[i] / (1 + std::exp(-double{x[i]})) * w[i];
  }
  NormRowArgs n;
  n.x = x.data();
  n.weight = w.data();
  n.eps = 1e-5f;
  n.n = kSize;
  n.y = y.data();
  kernels.norm_row(n);
  if (!Close(y, norm, 1e-6)) return false;
  ActivationRowArgs a;
  a.gate = x.data();
  a.up = w.data();
  a.n = kSize;
  a.y = y.data();
  kernels.activation_row(a);
  return Close(y, gated, 1e-6);
}

/// Over a cache of float32, or of bfloat16 multiplied as such.
bool AttentionAgrees(const CpuKernels& kernels, bool bf16_products) {
  constexpr int kDim = 40, kLength = 85, kGroup = 2, kBlocks = 6;
  uint32_t state = 3;
  std::vector<float> q(kGroup * kDim), cache(kBlocks * 2 * 16 * kDim), y(q.size());
  for (float& v : q) v = Bf16ToFloat(FloatToBf16(Pseudo(state)));
  for (float& v : cache) v = Bf16ToFloat(FloatToBf16(Pseudo(state)));
  std::vector<uint16_t> halves(cache.size());
  std::transform(cache.begin(), cache.end(), halves.begin(), FloatToBf16);
  const BlockId table[kBlocks] = {1, 5, 3, 0, 4, 2};
  AttentionTileArgs a;
  a.q = q.data();
  a.y = y.data();
  a.num_rows = 1;
  a.group = kGroup;
  a.head_dim = kDim;
  a.position_begin = kLength - 1;
  a.cache = cache.data();
  if (bf16_products) {
    a.bf16_products = true;
    a.kv_type = DType::kBFloat16;
    a.cache = halves.data();
  }
  a.block_stride = 2 * 16 * kDim;
  a.kv_stride = 16 * kDim;
  a.table = table;
  a.scale = 0.7f;
  std::vector<float> scratch(AttentionScratch(1, kGroup, kDim));
  a.scratch = scratch.data();
  kernels.attention_tile(a);
  std::vector<double> expected(q.size());
  for (int h = 0; h < kGroup; ++h) {
    double total = 0;
    for (int t = 0; t < kLength; ++t) {
      const float* block = &cache[table[t / 16] * a.block_stride];
      const float* k = block + KeyOffset(t % 16, kDim, false);
      const float* v = block + a.kv_stride + t % 16 * kDim;
      double score = 0;
      for (int d = 0; d < kDim; ++d) score += double{q[h * kDim + d]} * k[d * kCacheUnit];
      const double weight = std::exp(0.7 * score);
      total += weight;
      for (int d = 0; d < kDim; ++d) expected[h * kDim + d] += weight * v[d];
    }
    for (int d = 0; d < kDim; ++d) expected[h * kDim + d] /= total;
  }
  return Close(y, expected, bf16_products ? 1e-2 : 1e-5);
}

/// Bit for bit, tails, ties and NaN included.
bool ConversionsAgree(const CpuKernels& kernels) {
  constexpr int64_t kSize = 77;
  uint32_t state = 4;
  std::vector<float> x(kSize), back(kSize);
  for (float& v : x) v = 100 * Pseudo(state);
  x[3] = 1.0f + 0x1p-8f;
  x[4] = 1.0f + 0x1p-7f + 0x1p-8f;
  x[5] = NAN;
  x[70] = -INFINITY;
  std::vector<uint16_t> bf16(kSize), expected(kSize), fp16(kSize);
  std::transform(x.begin(), x.end(), expected.begin(), FloatToBf16);
  kernels.convert_row(DType::kFloat32, x.data(), true, bf16.data(), kSize, 1.0f, false);
  if (std::memcmp(bf16.data(), expected.data(), kSize * sizeof(uint16_t)) != 0) return false;
  const auto same = [](float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); };
  kernels.convert_row(DType::kBFloat16, bf16.data(), false, back.data(), kSize, 1.0f, false);
  for (int64_t i = 0; i < kSize; ++i) {
    if (!same(back[i], Bf16ToFloat(bf16[i]))) return false;
  }
  std::transform(x.begin(), x.end(), fp16.begin(), FloatToFp16);
  kernels.convert_row(DType::kFloat16, fp16.data(), false, back.data(), kSize, 1.0f, false);
  for (int64_t i = 0; i < kSize; ++i) {
    if (!same(back[i], Fp16ToFloat(fp16[i]))) return false;
  }
  return true;
}

bool RopeAgrees(const CpuKernels& kernels) {
  constexpr int kDim = 40, kHalf = 18;  // one q, one k, one v head; 36 of 40 dimensions turn
  uint32_t state = 5;
  std::vector<float> x(3 * kDim), cos_sin(2 * kHalf), keys(kDim * kCacheUnit), values(kDim);
  for (float& v : x) v = Pseudo(state);
  for (float& v : cos_sin) v = Pseudo(state);
  std::vector<double> expected(x.begin(), x.end());
  for (int head = 0; head < 2; ++head) {
    for (int i = 0; i < kHalf; ++i) {
      double& a = expected[head * kDim + i];
      double& b = expected[head * kDim + kHalf + i];
      const double rotated = b * cos_sin[i] + a * cos_sin[kHalf + i];
      a = a * cos_sin[i] - b * cos_sin[kHalf + i];
      b = rotated;
    }
  }
  RopeRowArgs args;
  args.qkv = x.data();
  args.heads = {1, 1, kDim};
  args.cos_sin = cos_sin.data();
  args.rotary_dim = 2 * kHalf;
  args.k_out = keys.data();
  args.v_out = values.data();
  args.head_stride = kDim;
  kernels.rope_row(args);
  if (!Close(x, expected, 1e-6)) return false;
  for (int i = 0; i < kDim; ++i) {
    if (keys[i * kCacheUnit] != x[kDim + i]) return false;
  }
  return std::memcmp(values.data(), x.data() + 2 * kDim, kDim * sizeof(float)) == 0;
}

bool DeltaAgrees(const CpuKernels& kernels) {
  constexpr int64_t kKeys = 5, kValues = 21, kWidth = 3;
  uint32_t state = 6;
  std::vector<float> q(kKeys), k(kKeys), v(kValues), s(kKeys * kValues), scratch(kValues),
      y(kValues);
  for (auto* all : {&q, &k, &v, &s}) {
    for (float& value : *all) value = Pseudo(state);
  }
  std::vector<double> expected(kValues);
  for (int64_t c = 0; c < kValues; ++c) {
    double read = 0;
    for (int64_t i = 0; i < kKeys; ++i) read += 0.5 * s[i * kValues + c] * k[i];
    for (int64_t i = 0; i < kKeys; ++i)
      expected[c] += q[i] * (0.5 * s[i * kValues + c] + k[i] * 0.75 * (v[c] - read));
  }
  kernels.delta_step({q.data(), k.data(), v.data(), kKeys, kValues, 0.5f, 0.75f, s.data(),
                      scratch.data(), y.data()});
  if (!Close(y, expected, 1e-5)) return false;
  std::vector<float> rows(kWidth * kValues), conv(kWidth * kValues);
  for (float& value : rows) value = Pseudo(state);
  for (float& value : conv) value = Pseudo(state);
  const float* window[kWidth];
  for (int64_t t = 0; t < kWidth; ++t) window[t] = &rows[t * kValues];
  kernels.conv_step(window, kWidth, conv.data(), kValues, y.data());
  for (int64_t c = 0; c < kValues; ++c) {
    double sum = 0;
    for (int64_t t = 0; t < kWidth; ++t)
      sum += double{rows[t * kValues + c]} * conv[t * kValues + c];
    expected[c] = sum / (1 + std::exp(-sum));
  }
  return Close(y, expected, 1e-5);
}

}  // namespace

bool SelfTest(const CpuKernels& kernels) {
  return LinearAgrees(kernels, WeightFormat::kFloat32) &&
         LinearAgrees(kernels, WeightFormat::kBFloat16) &&
         LinearAgrees(kernels, WeightFormat::kFloat16) &&
         (!kernels.bf16_products || LinearAgrees(kernels, WeightFormat::kBFloat16, true)) &&
         AllCodesAgree(kernels) && AllIntegersAgree(kernels) && NormAndGateAgree(kernels) &&
         AttentionAgrees(kernels, false) &&
         (!kernels.bf16_products || AttentionAgrees(kernels, true)) && ConversionsAgree(kernels) &&
         RopeAgrees(kernels) && DeltaAgrees(kernels);
}

}  // namespace penstock
