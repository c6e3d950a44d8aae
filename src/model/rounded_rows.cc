#include "model/rounded_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/half.h"

namespace penstock {
namespace {

constexpr int32_t kCenterOf4 = 8;
constexpr int32_t kCenterOf8 = 128;
constexpr size_t kLanes = 8;  // sums side by side: what the compiler makes a vector of

QuantizedForm FormOf(const RoundingRule& rule, int64_t k) {
  QuantizedForm form;
  form.bits = rule.bits;
  form.group = rule.group == 0 ? std::max<int64_t>(k, 1) : rule.group;
  form.center = rule.bits == 4 ? kCenterOf4 : kCenterOf8;
  return form;
}

/// Nearest integer, ties to even, of |x| < 2^22; a form that vectorises.
inline float Nearest(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

float InverseOf(float scale) { return scale == 0.0f ? 0.0f : 1.0f / scale; }

inline float SquareOfRest(float v, float scale, float inverse) {
  const float q = std::min(std::max(Nearest(v * inverse), -8.0f), 7.0f);
  const float d = v - q * scale;
  return d * d;
}

float SquaredError(absl::Span<const float> w, float scale) {
  const float inverse = InverseOf(scale);
  float sums[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= w.size(); i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) sums[j] += SquareOfRest(w[i + j], scale, inverse);
  }
  for (; i < w.size(); ++i) sums[0] += SquareOfRest(w[i], scale, inverse);
  return std::accumulate(sums, sums + kLanes, 0.0f);
}

/// The largest |w|, with its sign.
float Extreme(absl::Span<const float> w) {
  float low[kLanes] = {};
  float high[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= w.size(); i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) {
      low[j] = std::min(low[j], w[i + j]);
      high[j] = std::max(high[j], w[i + j]);
    }
  }
  for (; i < w.size(); ++i) {
    low[0] = std::min(low[0], w[i]);
    high[0] = std::max(high[0], w[i]);
  }
  const float least = *std::min_element(low, low + kLanes);
  const float most = *std::max_element(high, high + kLanes);
  return -least > most ? least : most;
}

float ScaleOf4(absl::Span<const float> w) {
  const float most = Extreme(w);
  float best = 0;
  float best_error = INFINITY;
  for (const float steps : {8.0f, 7.4f, 7.7f, 8.3f, 8.7f, 9.1f, 7.0f}) {
    const float scale = Bf16ToFloat(FloatToBf16(most / -steps));
    const float error = SquaredError(w, scale);
    if (error < best_error) {
      best = scale;
      best_error = error;
    }
  }
  return best;
}

float ScaleOf8(absl::Span<const float> w, bool of_row) {
  const float scale = std::fabs(Extreme(w)) / 127.0f;
  return of_row ? scale : Bf16ToFloat(FloatToBf16(scale));
}

void WidenRow(const HostTensor& t, int64_t row, std::vector<uint16_t>& halves,
              absl::Span<float> out) {
  const size_t size = DTypeSize(t.dtype);
  const char* from = static_cast<const char*>(t.data) + row * out.size() * size;
  if (t.dtype == DType::kFloat32) {
    std::memcpy(out.data(), from, out.size() * size);
    return;
  }
  halves.resize(out.size());
  std::memcpy(halves.data(), from, out.size() * size);
  if (t.dtype == DType::kBFloat16) {
    for (size_t i = 0; i < out.size(); ++i) out[i] = Bf16ToFloat(halves[i]);
  } else {
    for (size_t i = 0; i < out.size(); ++i) out[i] = Fp16ToFloat(halves[i]);
  }
}

}  // namespace

absl::StatusOr<RoundingRule> ParseRoundingRule(std::string_view name) {
  if (name == "none") return RoundingRule{};
  if (name == "int8") return RoundingRule{8, 32};
  if (name == "int8-channel") return RoundingRule{8, 0};
  if (name == "int4") return RoundingRule{4, 32};
  if (name == "int4-128") return RoundingRule{4, 128};
  return absl::InvalidArgumentError(
      absl::StrCat("quantize is \"", absl::string_view(name.data(), name.size()),
                   "\", expected none, int8, int8-channel, int4 or int4-128"));
}

std::optional<DType> RoundedRows::scale_type() const {
  return form().group >= k() ? DType::kFloat32 : DType::kBFloat16;
}

RoundedRows::RoundedRows(HostTensor plain, RoundingRule rule)
    : QuantizedRows(plain.shape[0], plain.shape[1], FormOf(rule, plain.shape[1])),
      plain_(std::move(plain)) {}

void RoundedRows::Read(int64_t begin, int64_t num_rows, uint8_t* codes, float* scales,
                       float* /*offsets*/) const {
  const auto center = static_cast<float>(form().center);
  const float low = form().bits == 4 ? -8.0f : -127.0f;
  const float high = form().bits == 4 ? 7.0f : 127.0f;
  std::vector<float> row(k());
  std::vector<uint16_t> halves;
  for (int64_t r = 0; r < num_rows; ++r) {
    WidenRow(plain_, begin + r, halves, absl::MakeSpan(row));
    for (int64_t g = 0; g < num_groups(); ++g) {
      const absl::Span<const float> w =
          absl::MakeConstSpan(row).subspan(g * form().group, form().group);
      const float scale = form().bits == 4 ? ScaleOf4(w) : ScaleOf8(w, form().group >= k());
      if (scales != nullptr) scales[r * num_groups() + g] = scale;
      if (codes == nullptr) continue;
      const float inverse = InverseOf(scale);
      uint8_t* out = codes + r * k() + g * form().group;
      for (size_t i = 0; i < w.size(); ++i) {
        const float q = std::min(std::max(Nearest(w[i] * inverse), low), high);
        out[i] = static_cast<uint8_t>(q + center);
      }
    }
  }
}

}  // namespace penstock
