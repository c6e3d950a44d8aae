#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/cpu_ops.h"

namespace penstock {
namespace {

constexpr float kNormEps = 1e-6f;
constexpr int32_t kMaxConvWidth = 16;

/// x / |x| * scale
void UnitLength(float* x, int64_t n, float scale) {
  float squares = 0;
  for (int64_t i = 0; i < n; ++i) squares += x[i] * x[i];
  const float factor = scale / std::sqrt(squares + kNormEps);
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

float Softplus(float x) { return x > 20.0f ? x : std::log1p(std::exp(x)); }

}  // namespace

void CpuOps::DeltaRule(const DeltaArgs& a, const BatchRows& batch) {
  const DeltaShape& d = a.shape;
  const int64_t channels = d.channels();
  const int64_t m = batch.num_rows;
  if (static_cast<int64_t>(delta_in_.size()) < m * channels) {
    delta_in_.resize(m * channels);
    delta_conv_.resize(m * channels);
  }
  ForRows(m, channels, [&](int64_t r) {
    kernels_.convert_row(a.qkv.dtype, a.qkv.row(r), false, &delta_in_[r * channels], channels, 1.0f,
                         false);
  });
  Convolve(a, batch);
  if (static_cast<int64_t>(delta_out_.size()) < m * a.y.cols) delta_out_.resize(m * a.y.cols);
  const int64_t tiles = static_cast<int64_t>(batch.sequences.size()) * d.num_value_heads;
  pool_->ParallelFor(tiles, [&](int64_t tile) {
    Recur(a, batch.sequences[tile / d.num_value_heads],
          static_cast<int32_t>(tile % d.num_value_heads));
  });
  ForRows(m, a.y.cols, [&](int64_t r) {
    kernels_.convert_row(DType::kFloat32, &delta_out_[r * a.y.cols], a.y.dtype == DType::kBFloat16,
                         a.y.row(r), a.y.cols, 1.0f, false);
  });
}

void CpuOps::Convolve(const DeltaArgs& a, const BatchRows& batch) {
  const DeltaShape& d = a.shape;
  const int64_t channels = d.channels();
  const int64_t history = d.conv_width - 1;  // rows of a state that lie before the slice
  for (const SequenceRows& s : batch.sequences) {
    float* state = a.states + s.slot * a.state_stride;
    const auto input = [&](int64_t row) {  // row -history .. num_rows - 1 of this slice
      return row < 0 ? state + (row + history) * channels
                     : &delta_in_[(s.row_begin + row) * channels];
    };
    ForRows(s.num_rows, d.conv_width * channels, [&](int64_t r) {
      const float* window[kMaxConvWidth];
      for (int32_t t = 0; t < d.conv_width; ++t) window[t] = input(r - history + t);
      float* y = &delta_conv_[(s.row_begin + r) * channels];
      kernels_.conv_step(window, d.conv_width, a.conv, channels, y);
      const float scale = 1.0f / std::sqrt(static_cast<float>(d.key_dim));
      for (int32_t h = 0; h < 2 * d.num_key_heads; ++h) {
        UnitLength(y + h * d.key_dim, d.key_dim, h < d.num_key_heads ? scale : 1.0f);
      }
    });
    std::vector<float> next(history * channels);
    for (int64_t t = 0; t < history; ++t) {
      std::copy_n(input(s.num_rows - history + t), channels, &next[t * channels]);
    }
    std::copy(next.begin(), next.end(), state);
  }
}

void CpuOps::Recur(const DeltaArgs& a, const SequenceRows& s, int32_t head) {
  const DeltaShape& d = a.shape;
  const int64_t channels = d.channels();
  const int32_t key_head = head / (d.num_value_heads / d.num_key_heads);
  const int64_t keys = int64_t{d.num_key_heads} * d.key_dim;
  std::vector<float> delta(d.value_dim);
  DeltaStepArgs step;
  step.key_dim = d.key_dim;
  step.value_dim = d.value_dim;
  step.delta = delta.data();
  step.state = a.states + s.slot * a.state_stride + (d.conv_width - 1) * channels +
               int64_t{head} * d.key_dim * d.value_dim;
  for (int64_t r = s.row_begin; r < s.row_begin + s.num_rows; ++r) {
    const float* row = &delta_conv_[r * channels];
    const auto* ba = reinterpret_cast<const float*>(a.ba.row(r));
    step.q = row + key_head * d.key_dim;
    step.k = row + keys + key_head * d.key_dim;
    step.v = row + 2 * keys + head * d.value_dim;
    step.beta = 1.0f / (1.0f + std::exp(-ba[head]));
    step.decay =
        std::exp(-a.decay[head] * Softplus(ba[d.num_value_heads + head] + a.dt_bias[head]));
    step.y = &delta_out_[r * a.y.cols + head * d.value_dim];
    kernels_.delta_step(step);
  }
}

}  // namespace penstock
