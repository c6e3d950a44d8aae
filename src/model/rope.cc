#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace penstock {
namespace {

constexpr double kTwoPi = 2 * std::numbers::pi;

/// Long waves are slowed by `factor`, short ones kept, those between blended.
double Llama3Frequency(const RopeConfig& rope, double frequency) {
  const double length = rope.original_max_positions;
  const double wave = kTwoPi / frequency;
  if (wave > length / rope.low_freq_factor) return frequency / rope.factor;
  if (wave < length / rope.high_freq_factor) return frequency;
  const double smooth =
      (length / wave - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) * frequency / rope.factor + smooth * frequency;
}

/// The dimension whose wave turns `rotations` times within the trained context.
double YarnDimension(const RopeConfig& rope, int32_t dim, double rotations) {
  return dim * std::log(rope.original_max_positions / (rotations * kTwoPi)) /
         (2 * std::log(rope.theta));
}

double YarnFrequency(const RopeConfig& rope, int32_t dim, int32_t pair, double frequency) {
  double low = YarnDimension(rope, dim, rope.beta_fast);
  double high = YarnDimension(rope, dim, rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1.0);
  if (low == high) high += 0.001;
  const double ramp = std::clamp((pair - low) / (high - low), 0.0, 1.0);  // 0: keep, 1: slow down
  return frequency / rope.factor * ramp + frequency * (1 - ramp);
}

}  // namespace

int32_t RopeSplit(const RopeConfig& rope, int32_t num_positions) {
  const bool splits =
      rope.type == RopeType::kLongRope && num_positions > rope.original_max_positions;
  return splits ? rope.original_max_positions : 0;
}

std::vector<float> RopeFrequencies(const RopeConfig& rope, bool beyond) {
  const int32_t dim = rope.rotary_dim;
  std::vector<float> out(dim / 2);
  const std::vector<double>& factors = beyond ? rope.long_factors : rope.short_factors;
  for (int32_t i = 0; i < dim / 2; ++i) {
    double frequency = 1.0 / std::pow(rope.theta, 2.0 * i / dim);
    switch (rope.type) {
      case RopeType::kLinear:
        frequency /= rope.factor;
        break;
      case RopeType::kLlama3:
        frequency = Llama3Frequency(rope, frequency);
        break;
      case RopeType::kYarn:
        frequency = YarnFrequency(rope, dim, i, frequency);
        break;
      case RopeType::kLongRope:
        frequency /= factors[i];
        break;
      case RopeType::kProportional:
        frequency = i < rope.rotated_pairs ? frequency / rope.factor : 0.0;
        break;
      case RopeType::kDefault:
      case RopeType::kDynamic:
        break;
    }
    out[i] = static_cast<float>(frequency);
  }
  return out;
}

float RopeMagnitude(const RopeConfig& rope) {
  if (rope.type != RopeType::kYarn && rope.type != RopeType::kLongRope) return 1.0f;
  if (rope.attention_factor > 0) return static_cast<float>(rope.attention_factor);
  if (rope.type == RopeType::kLongRope) {
    if (rope.factor <= 1) return 1.0f;
    return static_cast<float>(
        std::sqrt(1.0 + std::log(rope.factor) / std::log(double(rope.original_max_positions))));
  }
  const auto magnitude = [&](double mscale) {
    return rope.factor <= 1 ? 1.0 : 0.1 * mscale * std::log(rope.factor) + 1.0;
  };
  if (rope.mscale > 0 && rope.mscale_all_dim > 0) {
    return static_cast<float>(magnitude(rope.mscale) / magnitude(rope.mscale_all_dim));
  }
  return static_cast<float>(magnitude(1.0));
}

std::vector<float> RopeTable(const RopeConfig& rope, int32_t num_positions) {
  const std::vector<float> within = RopeFrequencies(rope);
  const std::vector<float> beyond = RopeFrequencies(rope, true);
  const int32_t num_rows = RopeSplit(rope, num_positions) > 0 ? 2 * num_positions : num_positions;
  const float magnitude = RopeMagnitude(rope);
  const size_t half = within.size();
  std::vector<float> table(2 * half * num_rows);
  for (int32_t row = 0; row < num_rows; ++row) {
    const std::vector<float>& frequencies = row < num_positions ? within : beyond;
    const int32_t position = row % num_positions;
    float* cos_row = table.data() + 2 * half * row;
    for (size_t i = 0; i < half; ++i) {
      const float angle =
          static_cast<float>(position) * frequencies[i];  // in float32, as models are trained
      cos_row[i] = static_cast<float>(std::cos(double{angle})) * magnitude;
      cos_row[half + i] = static_cast<float>(std::sin(double{angle})) * magnitude;
    }
  }
  return table;
}

}  // namespace penstock
