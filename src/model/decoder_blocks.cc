#include "base/status_macros.h"
#include "model/decoder.h"

namespace penstock {

ActivationArgs Decoder::Activation() const {
  ActivationArgs args;
  args.f = config_->activation;
  args.limit = config_->swiglu_limit;
  args.alpha = config_->swiglu_alpha;
  return args;
}

void Decoder::Mixture(size_t index, const MixtureWeights& w, int64_t rows) {
  const ExpertsConfig& e = config_->experts;
  Ops& ops = device_->ops();
  const Tensor logits = {scores_buffer_.data(), DType::kFloat32, rows, w.router.n, w.router.n};
  RouteArgs route;
  route.logits = logits;
  route.rule = e.rule;
  route.rule.scale *= config_->residual_scale;
  route.rule.shared_scale = config_->residual_scale;
  route.num_experts = e.num_experts;
  route.top_k = e.top_k;
  route.score_bias = FloatsOf(w.score_bias);
  if (e.shared_intermediate_size > 0) {
    route.shared = e.shared_gate ? RouteArgs::kGated : RouteArgs::kAlways;
  }
  route.ids = static_cast<int32_t*>(route_ids_.data());
  route.weights = static_cast<float*>(route_weights_.data());
  ops.Linear({.x = input_, .w = &w.router, .y = logits});
  AddAdapted(&AdaptedLayer::router, index, input_, logits);
  ops.Route(route);
  const bool shared = link_.collective != nullptr;
  const Tensor sum = shared ? Partial(rows) : hidden_;
  if (shared) device_->CopyOnDevice(sum.data, nullptr, rows * sum.cols * sizeof(float));
  Experts(index, w, route, sum);
  if (shared) AddSum(rows, 1.0f, {}, 1.0f);
}

Tensor Decoder::LatentAttention(size_t index, const BatchRows& batch, const LayerCache& cache) {
  const ModelConfig& c = *config_;
  const LatentConfig& l = c.latent;
  const LatentWeights& w = *weights_->layers[index].latent;
  const HeadShape& heads = c.layers[index].heads;
  Ops& ops = device_->ops();
  const int64_t m = batch.num_rows;
  const int64_t dim = heads.head_dim;  // kv_rank + rope_dim
  // q as attention sees it: per head the latents it asks for, then what turns; last the position's
  // own latent.
  const Tensor all = Activations(wide_buffer_, m, (heads.num_heads + 1) * dim);
  const Tensor nope = Activations(narrow_buffer_, m, int64_t{heads.num_heads} * l.nope_dim);
  Tensor q_in = input_;
  if (l.q_rank > 0) {
    q_in = Activations(side_buffer_, m, l.q_rank);
    ops.Linear({.x = input_, .w = &w.q_a, .y = q_in});
    AddAdapted(&AdaptedLayer::q_a, index, input_, q_in);
    ApplyNorm(w.q_a_norm, q_in, q_in);
  }
  ops.Linear({.x = q_in, .w = &w.q_nope, .y = nope});
  AddAdapted(&AdaptedLayer::q_nope, index, q_in, nope);
  for (int32_t h = 0; h < heads.num_heads; ++h) {
    const Tensor own = ColumnsOf(nope, int64_t{h} * l.nope_dim, l.nope_dim);
    const Tensor asked = ColumnsOf(all, h * dim, l.kv_rank);
    ops.Linear({.x = own, .w = &w.k_up[h], .y = asked});
    AddAdaptedKeys(index, h, own, asked);
    ops.Linear(
        {.x = q_in, .w = &w.q_rope[h], .y = ColumnsOf(all, h * dim + l.kv_rank, l.rope_dim)});
  }
  AddAdapted(&AdaptedLayer::q_rope, index, q_in, ColumnsOf(all, l.kv_rank, all.cols - l.kv_rank));
  const Tensor latent = ColumnsOf(all, heads.num_heads * dim, dim);
  const Tensor compressed = ColumnsOf(latent, 0, l.kv_rank);
  ops.Linear({.x = input_, .w = &w.kv_a, .y = latent});
  AddAdapted(&AdaptedLayer::kv_a, index, input_, latent);
  ApplyNorm(w.kv_a_norm, compressed, compressed);
  ops.RopeAndCache(Rope(index, all, cache.kv), batch);
  const Tensor attended = Activations(narrow_buffer_, m, heads.num_heads * dim);
  ops.Attention({.q = ColumnsOf(all, 0, heads.num_heads * dim),
                 .heads = heads,
                 .cache = cache.kv,
                 .scale = c.attention_scale,
                 .y = attended},
                batch);
  const Tensor values = Activations(side_buffer_, m, int64_t{heads.num_heads} * l.value_dim);
  for (int32_t h = 0; h < heads.num_heads; ++h) {
    const Tensor latents = ColumnsOf(attended, h * dim, l.kv_rank);
    const Tensor own = ColumnsOf(values, int64_t{h} * l.value_dim, l.value_dim);
    ops.Linear({.x = latents, .w = &w.v_up[h], .y = own});
    AddAdaptedValues(index, h, latents, own);
  }
  return values;
}

absl::Status Decoder::MakeRoomForDelta(int32_t max_rows) {
  const int64_t rows = max_rows;
  const auto element = static_cast<int64_t>(DTypeSize(dtype_));
  delta_qkv_.resize(config_->layers.size());
  delta_ba_.resize(config_->layers.size());
  for (size_t i = 0; i < config_->layers.size(); ++i) {
    if (!config_->layers[i].recurrent) continue;
    ASSIGN_OR_RETURN(delta_qkv_[i], device_->Allocate(rows * config_->delta.channels() * element));
    ASSIGN_OR_RETURN(delta_ba_[i],
                     device_->Allocate(rows * 2 * config_->delta.num_value_heads * 4));
  }
  return absl::OkStatus();
}

Decoder::DeltaRows Decoder::DeltaRowsIn(size_t index, int64_t rows, const DeviceBuffer& qkv,
                                        const DeviceBuffer& ba) const {
  const DeltaShape& d = config_->delta;
  const int64_t n = weights_->layers[index].delta->ba.n;
  return {Activations(qkv, rows, d.channels()),
          {ba.data(), DType::kFloat32, rows, n, n},
          Activations(narrow_buffer_, rows, int64_t{d.num_value_heads} * d.value_dim)};
}

void Decoder::Recur(size_t index, const DeltaRows& rows, const BatchRows& batch,
                    const LayerCache& cache) {
  const DeltaWeights& w = *weights_->layers[index].delta;
  device_->ops().DeltaRule({.shape = config_->delta,
                            .qkv = rows.qkv,
                            .ba = rows.ba,
                            .conv = FloatsOf(w.conv),
                            .decay = FloatsOf(w.decay),
                            .dt_bias = FloatsOf(w.dt_bias),
                            .states = cache.states,
                            .state_stride = cache.state_stride,
                            .y = rows.out},
                           batch);
}

void Decoder::RedoDelta(absl::Span<const int32_t> rows, absl::Span<const SequenceRows> sequences,
                        absl::Span<const LayerCache> cache) {
  BatchRows batch;
  batch.num_rows = static_cast<int32_t>(rows.size());
  batch.sequences = sequences;
  const auto kept = static_cast<int64_t>(delta_rows_.size());
  for (size_t i = 0; i < config_->layers.size(); ++i) {
    if (!config_->layers[i].recurrent) continue;
    const DeltaRows from = DeltaRowsIn(i, kept, delta_qkv_[i], delta_ba_[i]);
    const DeltaRows to = DeltaRowsIn(i, batch.num_rows, wide_buffer_, scores_buffer_);
    device_->ops().GatherRows(from.qkv, rows, to.qkv);
    device_->ops().GatherRows(from.ba, rows, to.ba);
    Recur(i, to, batch, cache[i]);
  }
}

Tensor Decoder::DeltaRule(size_t index, const BatchRows& batch, const LayerCache& cache) {
  const DeltaShape& d = config_->delta;
  const DeltaWeights& w = *weights_->layers[index].delta;
  Ops& ops = device_->ops();
  const int64_t m = batch.num_rows;
  const int64_t num_values = int64_t{d.num_value_heads} * d.value_dim;
  const DeltaRows rows = DeltaRowsIn(index, m, wide_buffer_, scores_buffer_);
  const auto& [qkv, ba, out] = rows;
  const Tensor z = Activations(side_buffer_, m, num_values);
  ops.Linear({.x = input_, .w = &w.qkv, .y = qkv});
  ops.Linear({.x = input_, .w = &w.z, .y = z});
  ops.Linear({.x = input_, .w = &w.ba, .y = ba});
  AddAdapted(&AdaptedLayer::qkv, index, input_, qkv);
  AddAdapted(&AdaptedLayer::z, index, input_, z);
  AddAdapted(&AdaptedLayer::ba, index, input_, ba);
  if (!delta_rows_.empty()) {
    const auto kept = static_cast<int64_t>(delta_rows_.size());
    const DeltaRows to = DeltaRowsIn(index, kept, delta_qkv_[index], delta_ba_[index]);
    ops.GatherRows(qkv, delta_rows_, to.qkv);
    ops.GatherRows(ba, delta_rows_, to.ba);
  }
  Recur(index, rows, batch, cache);
  const Tensor heads = Activations(narrow_buffer_, m * d.num_value_heads, d.value_dim);
  ops.Norm({.x = heads, .weight = FloatsOf(w.norm.weight), .eps = config_->norm_eps, .y = heads});
  ops.Activate({.f = Activation::kSilu, .gate = z, .up = out, .y = out});
  return out;
}

}  // namespace penstock
