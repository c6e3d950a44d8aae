#include "model/decoder.h"

#include <algorithm>

#include "base/status_macros.h"
#include "model/rope.h"

namespace penstock {
namespace {

const float* Floats(const DeviceBuffer& buffer) { return static_cast<const float*>(buffer.data()); }

}  // namespace

absl::StatusOr<Decoder> Decoder::Make(const ModelConfig* config, const ModelWeights* weights,
                                      Device* device, DType dtype, int32_t max_rows,
                                      int32_t max_len) {
  Decoder d;
  d.config_ = config;
  d.weights_ = weights;
  d.device_ = device;
  d.dtype_ = dtype;
  const ModelConfig& c = *config;
  const int64_t q_size = int64_t{c.num_heads} * c.head_dim;
  const int64_t qkv_size = q_size + 2 * int64_t{c.num_kv_heads} * c.head_dim;
  const size_t row_bytes = max_rows * DTypeSize(dtype);
  ASSIGN_OR_RETURN(d.hidden_buffer_, device->Allocate(row_bytes * c.hidden_size));
  ASSIGN_OR_RETURN(d.normed_buffer_, device->Allocate(row_bytes * c.hidden_size));
  ASSIGN_OR_RETURN(
      d.wide_buffer_,
      device->Allocate(row_bytes * std::max<int64_t>(qkv_size, 2 * c.intermediate_size)));
  ASSIGN_OR_RETURN(d.narrow_buffer_,
                   device->Allocate(row_bytes * std::max<int64_t>(q_size, c.intermediate_size)));
  const std::vector<float> table = RopeTable(c.rope, c.head_dim, max_len);
  ASSIGN_OR_RETURN(d.cos_sin_, device->Allocate(table.size() * sizeof(float)));
  device->CopyToDevice(d.cos_sin_.data(), table.data(), table.size() * sizeof(float));
  return d;
}

Tensor Decoder::Activations(const DeviceBuffer& buffer, int64_t rows, int64_t cols) const {
  return {buffer.data(), dtype_, rows, cols, cols};
}

void Decoder::Forward(const BatchRows& batch, absl::Span<const KvLayer> cache) {
  const ModelConfig& c = *config_;
  Ops& ops = device_->ops();
  const int64_t m = batch.num_rows;
  const int64_t q_size = int64_t{c.num_heads} * c.head_dim;
  const Tensor x = Activations(hidden_buffer_, m, c.hidden_size);
  const Tensor normed = Activations(normed_buffer_, m, c.hidden_size);
  const Tensor qkv =
      Activations(wide_buffer_, m, q_size + 2 * int64_t{c.num_kv_heads} * c.head_dim);
  const Tensor q = {qkv.data, dtype_, m, q_size, qkv.cols};
  const Tensor attended = Activations(narrow_buffer_, m, q_size);
  const Tensor gate_up = Activations(wide_buffer_, m, 2 * int64_t{c.intermediate_size});
  const Tensor gated = Activations(narrow_buffer_, m, c.intermediate_size);

  ops.Embed(weights_->embedding, batch, 1.0f, x);
  for (size_t i = 0; i < c.layers.size(); ++i) {
    const LayerWeights& w = weights_->layers[i];
    ops.RmsNorm({x, Floats(w.input_norm), c.norm_eps, normed});
    ops.Linear({normed, &w.qkv, qkv});
    ops.RopeAndCache({qkv, c.heads(), Floats(w.q_norm), Floats(w.k_norm), c.norm_eps,
                      Floats(cos_sin_), c.head_dim, cache[i]},
                     batch);
    ops.Attention({.q = q,
                   .heads = c.heads(),
                   .cache = cache[i],
                   .scale = c.attention_scale,
                   .window = c.layers[i].window,
                   .y = attended},
                  batch);
    ops.Linear({.x = attended, .w = &w.o, .y = x, .accumulate = true});

    ops.RmsNorm({x, Floats(w.post_norm), c.norm_eps, normed});
    ops.Linear({normed, &w.gate_up, gate_up});
    ops.GatedActivation(c.activation, gate_up, gated);
    ops.Linear({.x = gated, .w = &w.down, .y = x, .accumulate = true});
  }
  hidden_ = x;
}

void Decoder::FinalNorm(const Tensor& x, const Tensor& y) {
  device_->ops().RmsNorm({x, Floats(weights_->final_norm), config_->norm_eps, y});
}

void Decoder::Logits(const Tensor& x, const Tensor& logits) {
  device_->ops().Linear({x, &weights_->lm_head, logits});
}

}  // namespace penstock
