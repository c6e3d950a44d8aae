#include "model/decoder.h"

#include <algorithm>
#include <cmath>

#include "base/status_macros.h"
#include "model/rope.h"

namespace penstock {

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Make(const ModelConfig* config,
                                                       const ModelWeights* weights, Device* device,
                                                       DType dtype, int32_t max_rows,
                                                       int32_t max_len, int64_t adapter_columns,
                                                       const RankLink& link) {
  std::unique_ptr<Decoder> d(new Decoder());
  d->config_ = config;
  d->weights_ = weights;
  d->device_ = device;
  d->dtype_ = dtype;
  d->link_ = link;
  RETURN_IF_ERROR(d->AllocateActivations(max_rows, adapter_columns));
  RETURN_IF_ERROR(d->MakeTables(max_len));
  return d;
}

absl::Status Decoder::AllocateActivations(int32_t max_rows, int64_t adapter_columns) {
  const ModelConfig& c = *config_;
  int64_t wide = (c.gated_mlp ? 2 : 1) * int64_t{c.intermediate_size};
  int64_t narrow = c.intermediate_size;
  int64_t side = 0;
  int64_t scores = 0;
  for (const LayerConfig& layer : c.layers) {
    const int64_t q = int64_t{layer.heads.num_heads} * layer.heads.head_dim;
    const int64_t kv = int64_t{layer.heads.num_kv_heads} * layer.heads.head_dim;
    wide = std::max(wide, (c.attention_gate ? 2 : 1) * q + 2 * kv);
    narrow = std::max(narrow, q);
  }
  if (c.has_latent_attention()) {
    const int64_t heads = c.layers[0].heads.num_heads;
    narrow = std::max<int64_t>(narrow, heads * c.latent.nope_dim);
    side = std::max<int64_t>(c.latent.q_rank, heads * c.latent.value_dim);
  }
  if (c.has_recurrent_layers()) {
    const int64_t values = int64_t{c.delta.num_value_heads} * c.delta.value_dim;
    wide = std::max(wide, c.delta.channels());
    narrow = std::max(narrow, values);
    side = std::max(side, values);
    scores = 2 * c.delta.num_value_heads;
  }
  const int64_t slots = c.experts.top_k + 1;
  if (c.experts.num_experts > 0) scores = std::max<int64_t>(scores, c.experts.num_experts + 1);
  const auto allocate = [&](int64_t row_bytes, DeviceBuffer& buffer) -> absl::Status {
    ASSIGN_OR_RETURN(buffer, device_->Allocate(max_rows * row_bytes));
    return absl::OkStatus();
  };
  const auto element = static_cast<int64_t>(DTypeSize(dtype_));
  RETURN_IF_ERROR(allocate(c.hidden_size * element, hidden_buffer_));
  RETURN_IF_ERROR(allocate(c.hidden_size * element, normed_buffer_));
  RETURN_IF_ERROR(allocate(wide * element, wide_buffer_));
  RETURN_IF_ERROR(allocate(narrow * element, narrow_buffer_));
  RETURN_IF_ERROR(allocate(side * element, side_buffer_));
  RETURN_IF_ERROR(allocate(scores * 4, scores_buffer_));
  RETURN_IF_ERROR(AllocateAdapters(max_rows, adapter_columns));
  if (link_.collective != nullptr) {
    RETURN_IF_ERROR(allocate(c.hidden_size * 4, partial_buffer_));
    row_numbers_ = Ascending(0, max_rows);
  }
  RETURN_IF_ERROR(allocate(slots * 4, route_ids_));
  return allocate(slots * 4, route_weights_);
}

absl::Status Decoder::MakeTables(int32_t max_len) {
  const ModelConfig& c = *config_;
  const auto copy = [&](absl::Span<const float> values, DeviceBuffer& buffer) -> absl::Status {
    ASSIGN_OR_RETURN(buffer, device_->Allocate(values.size() * sizeof(float)));
    device_->CopyToDevice(buffer.data(), values.data(), values.size() * sizeof(float));
    return absl::OkStatus();
  };
  for (size_t i = 0; i < c.ropes.size(); ++i) {
    const bool used = std::any_of(c.layers.begin(), c.layers.end(),
                                  [&](const LayerConfig& l) { return l.rope == int32_t(i); });
    cos_sin_.emplace_back();
    if (used) RETURN_IF_ERROR(copy(RopeTable(c.ropes[i], max_len), cos_sin_.back()));
  }
  if (c.query_scale_beta == 0) return absl::OkStatus();
  std::vector<float> scale(max_len);
  for (int32_t p = 0; p < max_len; ++p) {
    const int32_t far = p / c.ropes[0].original_max_positions;
    scale[p] = 1.0f + c.query_scale_beta * std::log(1.0f + static_cast<float>(far));
  }
  return copy(scale, q_scale_);
}

Tensor Decoder::Activations(const DeviceBuffer& buffer, int64_t rows, int64_t cols) const {
  return {buffer.data(), dtype_, rows, cols, cols};
}

void Decoder::ApplyNorm(const NormWeights& w, const Tensor& x, const Tensor& y) {
  device_->ops().Norm({.x = x,
                       .weight = FloatsOf(w.weight),
                       .eps = config_->norm_eps,
                       .y = y,
                       .bias = FloatsOf(w.bias),
                       .center = IsLayerNorm(config_->norm)});
}

void Decoder::AddToResidual(const PackedLinear& linear, AdaptedLinear AdaptedLayer::*adapted,
                            size_t index, const Tensor& x, const NormWeights& after, float scalar) {
  const float scale = config_->residual_scale;
  if (link_.collective != nullptr) {
    device_->ops().Linear({.x = x, .w = &linear, .y = Partial(x.rows)});
    return AddSum(x.rows, scale, after, scalar);
  }
  if (after.weight.data() == nullptr) {
    device_->ops().Linear({.x = x, .w = &linear, .y = hidden_, .accumulate = true, .scale = scale});
    return AddAdapted(adapted, index, x, hidden_, scale);
  }
  device_->ops().Linear({.x = x, .w = &linear, .y = normed_});
  AddAdapted(adapted, index, x, normed_);
  AddNormed(after, scalar);
}

void Decoder::AddNormed(const NormWeights& after, float scalar) {
  device_->ops().Norm({.x = normed_,
                       .weight = FloatsOf(after.weight),
                       .eps = config_->norm_eps,
                       .y = hidden_,
                       .accumulate = true,
                       .scale = scalar});
}

RopeArgs Decoder::Rope(size_t index, const Tensor& qkv, const KvLayer& cache) const {
  const LayerConfig& layer = config_->layers[index];
  const LayerWeights& w = weights_->layers[index];
  const bool per_head = config_->qk_norm == QkNorm::kPerHead;
  RopeArgs args{.qkv = qkv, .heads = layer.heads, .cache = cache};
  args.q_norm = per_head ? FloatsOf(w.q_norm.weight) : nullptr;
  args.k_norm = per_head ? FloatsOf(w.k_norm.weight) : nullptr;
  args.norm_eps = config_->norm_eps;
  if (layer.rope >= 0) {
    args.cos_sin = FloatsOf(cos_sin_[layer.rope]);
    args.rotary_dim = config_->ropes[layer.rope].rotary_dim;
  }
  args.rotary_begin = config_->latent.kv_rank;
  args.v_norm = config_->v_norm;
  args.q_scale = FloatsOf(q_scale_);
  return args;
}

Tensor Decoder::Attention(size_t index, const BatchRows& batch, const LayerCache& cache) {
  const ModelConfig& c = *config_;
  const LayerConfig& layer = c.layers[index];
  const LayerWeights& w = weights_->layers[index];
  Ops& ops = device_->ops();
  const int64_t q_size = int64_t{layer.heads.num_heads} * layer.heads.head_dim;
  const int64_t kv_size = int64_t{layer.heads.num_kv_heads} * layer.heads.head_dim;
  const int64_t qkv_size = q_size + 2 * kv_size;
  const Tensor all =
      Activations(wide_buffer_, batch.num_rows, qkv_size + (c.attention_gate ? q_size : 0));
  const Tensor q = ColumnsOf(all, 0, q_size);
  const Tensor attended = Activations(narrow_buffer_, batch.num_rows, q_size);
  ops.Linear({.x = input_, .w = &w.qkv, .y = all});
  AddAdapted(&AdaptedLayer::qkv, index, input_, all);
  if (c.qk_norm == QkNorm::kWhole) {
    const Tensor k = ColumnsOf(all, q_size, kv_size);
    ApplyNorm(w.q_norm, q, q);
    ApplyNorm(w.k_norm, k, k);
  }
  ops.RopeAndCache(Rope(index, ColumnsOf(all, 0, qkv_size), cache.kv), batch);
  ops.Attention({.q = q,
                 .heads = layer.heads,
                 .cache = cache.kv,
                 .scale = c.attention_scale,
                 .soft_cap = c.attention_soft_cap,
                 .window = layer.window,
                 .sinks = FloatsOf(w.sinks),
                 .y = attended},
                batch);
  if (c.attention_gate) {
    ops.Activate({.f = Activation::kSigmoid,
                  .gate = ColumnsOf(all, qkv_size, q_size),
                  .up = attended,
                  .y = attended});
  }
  return attended;
}

void Decoder::Mlp(size_t index, int64_t rows) {
  const ModelConfig& c = *config_;
  const LayerWeights& w = weights_->layers[index];
  if (w.mixture != nullptr) return Mixture(index, *w.mixture, rows);
  const int64_t inner = c.intermediate_size;
  const Tensor up = Activations(wide_buffer_, rows, (c.gated_mlp ? 2 : 1) * inner);
  ActivationArgs args = Activation();
  args.gate = ColumnsOf(up, 0, inner);
  if (c.gated_mlp) args.up = ColumnsOf(up, inner, inner);
  args.y = Activations(narrow_buffer_, rows, inner);
  device_->ops().Linear({.x = input_, .w = &w.gate_up, .y = up});
  AddAdapted(&AdaptedLayer::gate_up, index, input_, up);
  device_->ops().Activate(args);
  AddToResidual(w.down, &AdaptedLayer::down, index, args.y, w.mlp_output, w.scalar);
}

void Decoder::ForwardLayer(size_t index, const BatchRows& batch, const LayerCache& cache) {
  const LayerWeights& w = weights_->layers[index];
  const auto read_residual = [&](const NormWeights& norm) {
    input_ = hidden_;
    if (norm.weight.data() == nullptr) return;
    ApplyNorm(norm, hidden_, normed_);
    input_ = normed_;
  };
  read_residual(w.attention_input);
  const Tensor attended = w.delta != nullptr    ? DeltaRule(index, batch, cache)
                          : w.latent != nullptr ? LatentAttention(index, batch, cache)
                                                : Attention(index, batch, cache);
  const PackedLinear& o = w.delta != nullptr ? w.delta->out : w.o;
  if (config_->parallel_block) {
    if (w.mlp_input.weight.data() != nullptr) read_residual(w.mlp_input);
    AddToResidual(o, &AdaptedLayer::o, index, attended, {});
  } else {
    AddToResidual(o, &AdaptedLayer::o, index, attended, w.attention_output);
    read_residual(w.mlp_input);
  }
  Mlp(index, batch.num_rows);
}

void Decoder::StartRows(int64_t rows, absl::Span<const AdaptedRows> adapted) {
  adapted_ = adapted;
  hidden_ = Activations(hidden_buffer_, rows, config_->hidden_size);
  normed_ = Activations(normed_buffer_, rows, config_->hidden_size);
}

void Decoder::ForwardFrom(const PackedLinear& projection, const Tensor& x, const BatchRows& batch,
                          absl::Span<const LayerCache> cache) {
  StartRows(batch.num_rows, {});
  device_->ops().Linear({.x = x, .w = &projection, .y = hidden_});
  ForwardLayers(batch, cache);
}

void Decoder::Forward(const BatchRows& batch, absl::Span<const LayerCache> cache,
                      absl::Span<const AdaptedRows> adapted) {
  const ModelConfig& c = *config_;
  Ops& ops = device_->ops();
  StartRows(batch.num_rows, adapted);
  if (link_.collective != nullptr) {
    EmbedOwn(batch);
  } else {
    ops.Embed({.table = weights_->embedding,
               .ids = batch.ids,
               .y = hidden_,
               .scale = c.embedding_scale,
               .packed = weights_->packed_table()});
    AddAdaptedEmbedding(batch);
  }
  if (c.position_table) {
    ops.Embed(
        {.table = weights_->positions, .ids = batch.positions, .y = hidden_, .accumulate = true});
  }
  ForwardLayers(batch, cache);
}

void Decoder::ForwardLayers(const BatchRows& batch, absl::Span<const LayerCache> cache) {
  for (size_t i = 0; i < config_->layers.size(); ++i) {
    if (link_.collective != nullptr && !link_.collective->ok()) return;
    ForwardLayer(i, batch, cache[i]);
  }
}

void Decoder::FinalNorm(const Tensor& x, const Tensor& y) { ApplyNorm(weights_->final_norm, x, y); }

}  // namespace penstock
