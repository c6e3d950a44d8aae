#include "model/encoder.h"

#include <algorithm>
#include <cmath>

#include "base/status_macros.h"

namespace penstock {
absl::StatusOr<std::unique_ptr<Encoder>> Encoder::Make(const ModelConfig* config,
                                                       const ModelWeights* weights, Device* device,
                                                       DType dtype, int32_t max_rows) {
  std::unique_ptr<Encoder> e(new Encoder());
  e->config_ = config;
  e->weights_ = weights;
  e->device_ = device;
  e->dtype_ = dtype;
  const int64_t row = max_rows * static_cast<int64_t>(DTypeSize(dtype));
  const int64_t hidden = config->hidden_size;
  const int64_t wide = std::max<int64_t>(3 * hidden, config->intermediate_size);
  ASSIGN_OR_RETURN(e->hidden_buffer_, device->Allocate(row * hidden));
  ASSIGN_OR_RETURN(e->wide_buffer_, device->Allocate(row * wide));
  ASSIGN_OR_RETURN(e->narrow_buffer_, device->Allocate(row * hidden));
  return e;
}

void Encoder::ApplyNorm(const NormWeights& w, const Tensor& x) {
  device_->ops().Norm({.x = x,
                       .weight = FloatsOf(w.weight),
                       .eps = config_->norm_eps,
                       .y = x,
                       .bias = FloatsOf(w.bias),
                       .center = true});
}

void Encoder::ForwardLayer(const EncoderLayerWeights& w, const HeadShape& heads,
                           const BatchRows& batch) {
  Ops& ops = device_->ops();
  const int64_t m = batch.num_rows;
  const int64_t hidden = config_->hidden_size;
  const Tensor qkv = {wide_buffer_.data(), dtype_, m, 3 * hidden, 3 * hidden};
  const Tensor attended = {narrow_buffer_.data(), dtype_, m, hidden, hidden};
  const int64_t inner = config_->intermediate_size;
  const Tensor wide = {wide_buffer_.data(), dtype_, m, inner, inner};
  ops.Linear({.x = hidden_, .w = &w.qkv, .y = qkv});
  ops.Encode({.qkv = qkv,
              .heads = heads,
              .scale = 1.0f / std::sqrt(static_cast<float>(heads.head_dim)),
              .y = attended},
             batch);
  ops.Linear({.x = attended, .w = &w.o, .y = hidden_, .accumulate = true});
  ApplyNorm(w.attention_norm, hidden_);
  ops.Linear({.x = hidden_, .w = &w.up, .y = wide});
  ops.Activate({.f = config_->activation, .gate = wide, .y = wide});
  ops.Linear({.x = wide, .w = &w.down, .y = hidden_, .accumulate = true});
  ApplyNorm(w.mlp_norm, hidden_);
}

void Encoder::Forward(const BatchRows& batch, absl::Span<const LayerCache>,
                      absl::Span<const AdaptedRows>) {
  const EncoderWeights& w = *weights_->encoder;
  const int64_t hidden = config_->hidden_size;
  hidden_ = {hidden_buffer_.data(), dtype_, batch.num_rows, hidden, hidden};
  Ops& ops = device_->ops();
  Tensor positions = w.positions;
  positions.data = positions.row(config_->encoder.position_offset);
  ops.Embed({.table = w.words, .ids = batch.ids, .y = hidden_});
  ops.Embed({.table = positions, .ids = batch.positions, .y = hidden_, .accumulate = true});
  if (w.types.rows > 0) {
    ops.Embed({.table = w.types, .ids = batch.segments, .y = hidden_, .accumulate = true});
  }
  ApplyNorm(w.norm, hidden_);
  for (size_t i = 0; i < w.layers.size(); ++i)
    ForwardLayer(w.layers[i], config_->layers[i].heads, batch);
}

void Encoder::FinalNorm(const Tensor& x, const Tensor& y) {
  std::vector<int32_t> rows(x.rows);
  for (int64_t r = 0; r < x.rows; ++r) rows[r] = static_cast<int32_t>(r);
  if (x.data != y.data) device_->ops().GatherRows(x, rows, y);
}

void Encoder::Logits(const Tensor& x, absl::Span<const int32_t> /*rows*/, const Tensor& logits) {
  const EncoderWeights& w = *weights_->encoder;
  const Tensor dense = {narrow_buffer_.data(), dtype_, x.rows, x.cols, x.cols};
  // A soft cap of 1 is the hyperbolic tangent.
  device_->ops().Linear({.x = x, .w = &w.head_dense, .y = dense, .soft_cap = 1.0f});
  device_->ops().Linear({.x = dense, .w = &w.head_out, .y = logits});
}

}  // namespace penstock
