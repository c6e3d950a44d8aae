#include "model/weight_blocks.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "model/host_tensor.h"
#include "model/sliced_columns.h"

namespace penstock {
namespace {

absl::StatusOr<ExpertWeights> LoadExpert(const std::string& prefix,
                                         const std::string_view (&names)[3], int64_t hidden,
                                         int64_t inner, const ModelShard& shard,
                                         WeightLoader& loader) {
  LayerLinear gate_up{{{.name = absl::StrCat(prefix, ToAbsl(names[0])), .rows = inner},
                       {.name = absl::StrCat(prefix, ToAbsl(names[1])), .rows = inner}},
                      hidden};
  LayerLinear down{{{.name = absl::StrCat(prefix, ToAbsl(names[2])), .rows = hidden}}, inner};
  if (!shard.whole()) {
    TakeRows(InnerRows(inner, true, shard), gate_up);
    TakeColumns(shard, down);
  }
  ExpertWeights w;
  ASSIGN_OR_RETURN(w.gate_up, loader.Linear(gate_up.parts, gate_up.k, false));
  ASSIGN_OR_RETURN(w.down, loader.Linear(down.parts, down.k, false));
  return w;
}

/// Experts in one tensor for gate and up and one for down: [num_experts, out, in] with the gates
/// first; or, in turn, numbers as [num_experts, in, out] and codes as [num_experts, out, in].
absl::Status LoadStacked(const ModelConfig& config, const std::string& block,
                         const ModelShard& shard, WeightLoader& loader, MixtureWeights& out) {
  const ExpertsConfig& e = config.experts;
  const int64_t hidden = config.hidden_size;
  const int64_t inner = e.intermediate_size;
  const int64_t num = e.num_experts;
  const bool in_turn = e.interleaved;
  std::vector<int32_t> halves;  // gates, then ups
  for (int64_t i = 0; in_turn && i < 2 * inner; ++i)
    halves.push_back(static_cast<int32_t>(i < inner ? 2 * i : 2 * (i - inner) + 1));
  if (!shard.whole()) {
    std::vector<int32_t> own = InnerRows(inner, true, shard);
    for (int32_t& row : own) row = in_turn ? halves[row] : row;
    halves = std::move(own);
  }
  const auto load = [&](const std::string& name, int64_t rows, int64_t k, int64_t expert,
                        absl::Span<const int32_t> order,
                        absl::Span<const float> biases) -> absl::StatusOr<PackedLinear> {
    const bool by_input = order.empty() && !shard.whole();
    HostLinear weight;
    if (in_turn && loader.source().Has(name)) {
      ASSIGN_OR_RETURN(const HostTensor all, loader.source().Get(name, {num, k, rows}));
      weight.plain = Transposed(Element(all, expert));
    } else {
      ASSIGN_OR_RETURN(weight, loader.source().FindLinear(name, {num, rows, k}, expert));
    }
    const bool bias = in_turn && !(by_input && shard.rank > 0);
    const int64_t own = by_input ? k / shard.size : k;
    if (by_input) {
      ASSIGN_OR_RETURN(weight, SliceColumns(weight, shard.rank * own, own, name));
    }
    return loader.LinearOf(weight, own, order,
                           bias ? biases.subspan(expert * rows, rows) : absl::Span<const float>());
  };
  const std::string up = absl::StrCat(block, ToAbsl(e.stacked[0]));
  const std::string down = absl::StrCat(block, ToAbsl(e.stacked[1]));
  std::vector<float> up_bias, down_bias;
  if (in_turn) {
    ASSIGN_OR_RETURN(up_bias, loader.Floats(up + "_bias", {num, 2 * inner}));
    ASSIGN_OR_RETURN(down_bias, loader.Floats(down + "_bias", {num, hidden}));
  }
  for (int64_t i = 0; i < num; ++i) {
    ExpertWeights w;
    ASSIGN_OR_RETURN(w.gate_up, load(up, 2 * inner, hidden, i, halves, up_bias));
    ASSIGN_OR_RETURN(w.down, load(down, hidden, inner, i, {}, down_bias));
    out.experts.push_back(std::move(w));
  }
  return absl::OkStatus();
}

/// What every token visits: an expert of the block, or a layer of `prefix` beside it.
absl::Status LoadShared(const ModelConfig& config, const std::string& prefix,
                        const std::string& block, const ModelShard& shard, WeightLoader& loader,
                        MixtureWeights& out) {
  if (config.experts.shared_fused) {
    const int64_t inner = config.experts.shared_intermediate_size;
    LayerLinear up{{{.name = prefix + "shared_mlp.input_linear", .rows = 2 * inner}},
                   config.hidden_size};
    LayerLinear down{{{.name = prefix + "shared_mlp.output_linear", .rows = config.hidden_size}},
                     inner};
    if (!shard.whole()) {
      TakeRows(InnerRows(inner, true, shard), up);
      TakeColumns(shard, down);
    }
    ExpertWeights w;
    ASSIGN_OR_RETURN(w.gate_up, loader.Linear(up.parts, up.k, false));
    ASSIGN_OR_RETURN(w.down, loader.Linear(down.parts, down.k, false));
    out.experts.push_back(std::move(w));
    return absl::OkStatus();
  }
  constexpr std::string_view kNames[3] = {"gate_proj", "up_proj", "down_proj"};
  const std::string name =
      absl::StrCat(block, config.experts.shared_gate ? "shared_expert." : "shared_experts.");
  ASSIGN_OR_RETURN(ExpertWeights w,
                   LoadExpert(name, kNames, config.hidden_size,
                              config.experts.shared_intermediate_size, shard, loader));
  out.experts.push_back(std::move(w));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<MixtureWeights>> LoadMixture(const ModelConfig& config,
                                                            const std::string& prefix,
                                                            const ModelShard& shard,
                                                            WeightLoader& loader) {
  const ExpertsConfig& e = config.experts;
  auto w = std::make_unique<MixtureWeights>();
  const std::string block = absl::StrCat(prefix, ToAbsl(e.block));
  const std::string router = absl::StrCat(block, ToAbsl(e.router));
  std::vector<RowsOf> routers = {{.name = router, .rows = e.num_experts}};
  if (e.shared_gate)
    routers.push_back({.name = absl::StrCat(block, "shared_expert_gate"), .rows = 1});
  ASSIGN_OR_RETURN(w->router, loader.Linear(routers, config.hidden_size, e.router_bias));
  if (!e.score_bias.empty()) {
    const std::string name = absl::StrCat(block, ToAbsl(e.score_bias));
    std::vector<int64_t> shape = {e.num_experts};
    if (e.score_bias_row) shape.insert(shape.begin(), 1);
    ASSIGN_OR_RETURN(const std::vector<float> bias, loader.Floats(name, shape));
    ASSIGN_OR_RETURN(w->score_bias, loader.ToDevice(bias));
  }
  const std::string experts = absl::StrCat(block, "experts.");
  const bool stacked =
      e.always_stacked ||
      (loader.source().Has(absl::StrCat(block, ToAbsl(e.stacked[0]))) &&
       !loader.source().Has(absl::StrCat(experts, "0.", ToAbsl(e.projections[0]), ".weight")));
  if (stacked) {
    RETURN_IF_ERROR(LoadStacked(config, block, shard, loader, *w));
  } else {
    for (int32_t i = 0; i < e.num_experts; ++i) {
      ASSIGN_OR_RETURN(ExpertWeights expert,
                       LoadExpert(absl::StrCat(experts, i, "."), e.projections, config.hidden_size,
                                  e.intermediate_size, shard, loader));
      w->experts.push_back(std::move(expert));
    }
  }
  if (e.shared_intermediate_size > 0)
    RETURN_IF_ERROR(LoadShared(config, prefix, block, shard, loader, *w));
  return w;
}

absl::StatusOr<std::unique_ptr<LatentWeights>> LoadLatent(const ModelConfig& config,
                                                          const HeadShape& heads,
                                                          const std::string& prefix,
                                                          WeightLoader& loader) {
  const LatentConfig& c = config.latent;
  const std::string attention = prefix + "self_attn.";
  const int64_t num_heads = heads.num_heads;
  const int64_t q_head = c.nope_dim + c.rope_dim;
  const int64_t turned = config.rope_interleaved ? c.rope_dim : 0;
  auto w = std::make_unique<LatentWeights>();
  std::string q = attention + "q_proj";
  int64_t q_in = config.hidden_size;
  if (c.q_rank > 0) {
    ASSIGN_OR_RETURN(w->q_a, loader.Linear({.name = attention + "q_a_proj", .rows = c.q_rank},
                                           config.hidden_size, config.qkv_bias));
    ASSIGN_OR_RETURN(w->q_a_norm,
                     loader.Norm(attention + "q_a_layernorm", NormType::kRms, c.q_rank));
    q = attention + "q_b_proj";
    q_in = c.q_rank;
  }
  RowsOf nope = {q, num_heads * c.nope_dim, RowsOfHeads(num_heads, c.nope_dim, q_head, 0),
                 num_heads * q_head};
  ASSIGN_OR_RETURN(w->q_nope, loader.Linear(std::move(nope), q_in, false));
  for (int64_t h = 0; h < num_heads; ++h) {
    RowsOf rope = {q, c.rope_dim, RowsOfHeads(1, c.rope_dim, 0, h * q_head + c.nope_dim, turned),
                   num_heads * q_head};
    ASSIGN_OR_RETURN(PackedLinear packed, loader.Linear(std::move(rope), q_in, false));
    w->q_rope.push_back(std::move(packed));
  }
  const int64_t latent = c.kv_rank + c.rope_dim;
  ASSIGN_OR_RETURN(w->kv_a,
                   loader.Linear({.name = attention + "kv_a_proj_with_mqa",
                                  .rows = latent,
                                  .order = RowsOfHeads(1, latent, 0, 0, turned, c.kv_rank)},
                                 config.hidden_size, config.qkv_bias));
  ASSIGN_OR_RETURN(w->kv_a_norm,
                   loader.Norm(attention + "kv_a_layernorm", NormType::kRms, c.kv_rank));
  const int64_t up = c.nope_dim + c.value_dim;
  ASSIGN_OR_RETURN(const HostTensor kv_b,
                   loader.Numbers(attention + "kv_b_proj", num_heads * up, c.kv_rank));
  for (int64_t h = 0; h < num_heads; ++h) {
    const HostLinear keys = {Transposed(SliceRows(kv_b, h * up, c.nope_dim)), nullptr};
    ASSIGN_OR_RETURN(PackedLinear k_up, loader.LinearOf(keys, c.nope_dim, {}, {}));
    w->k_up.push_back(std::move(k_up));
    const HostLinear values = {SliceRows(kv_b, h * up + c.nope_dim, c.value_dim), nullptr};
    ASSIGN_OR_RETURN(PackedLinear v_up, loader.LinearOf(values, c.kv_rank, {}, {}));
    w->v_up.push_back(std::move(v_up));
  }
  return w;
}

absl::StatusOr<std::unique_ptr<DeltaWeights>> LoadDelta(const ModelConfig& config,
                                                        const std::string& prefix,
                                                        WeightLoader& loader) {
  const DeltaShape& d = config.delta;
  const std::string block = prefix + "linear_attn.";
  const int64_t values = int64_t{d.num_value_heads} * d.value_dim;
  auto w = std::make_unique<DeltaWeights>();
  RowsOf qkv{.name = block + "in_proj_qkv", .rows = d.channels()};
  RowsOf z{.name = block + "in_proj_z", .rows = values};
  RowsOf b{.name = block + "in_proj_b", .rows = d.num_value_heads};
  RowsOf a{.name = block + "in_proj_a", .rows = d.num_value_heads};
  if (config.fused_delta) {
    const int64_t heads = d.num_key_heads;
    const int64_t own = values / heads;  // of v and z of a key head
    const int64_t stride = 2 * (d.key_dim + own);
    const auto part = [&](int64_t rows, int64_t offset) {
      return RowsOfHeads(heads, rows, stride, offset);
    };
    qkv = {block + "in_proj_qkvz", d.channels(), part(d.key_dim, 0), heads * stride};
    for (const auto& more : {part(d.key_dim, d.key_dim), part(own, 2 * d.key_dim)})
      qkv.order.insert(qkv.order.end(), more.begin(), more.end());
    z = {qkv.name, values, part(own, 2 * d.key_dim + own), heads * stride};
    const int64_t each = d.num_value_heads / heads;
    b = {block + "in_proj_ba", d.num_value_heads, RowsOfHeads(heads, each, 2 * each, 0),
         2 * d.num_value_heads};
    a = b;
    a.order = RowsOfHeads(heads, each, 2 * each, each);
  }
  ASSIGN_OR_RETURN(w->qkv, loader.Linear(qkv, config.hidden_size, false));
  ASSIGN_OR_RETURN(w->z, loader.Linear(z, config.hidden_size, false));
  ASSIGN_OR_RETURN(w->ba, loader.Linear({b, a}, config.hidden_size, false));
  ASSIGN_OR_RETURN(const std::vector<float> conv,
                   loader.Floats(block + "conv1d.weight", {d.channels(), 1, d.conv_width}));
  std::vector<float> turned(conv.size());
  for (int64_t c = 0; c < d.channels(); ++c) {
    for (int64_t t = 0; t < d.conv_width; ++t)
      turned[t * d.channels() + c] = conv[c * d.conv_width + t];
  }
  ASSIGN_OR_RETURN(w->conv, loader.ToDevice(turned));
  ASSIGN_OR_RETURN(std::vector<float> decay, loader.Floats(block + "A_log", {d.num_value_heads}));
  for (float& a : decay) a = std::exp(a);
  ASSIGN_OR_RETURN(w->decay, loader.ToDevice(decay));
  ASSIGN_OR_RETURN(w->dt_bias, loader.Vector(block + "dt_bias", d.num_value_heads));
  ASSIGN_OR_RETURN(w->norm, loader.Norm(block + "norm", NormType::kRms, d.value_dim));
  ASSIGN_OR_RETURN(w->out, loader.Linear({.name = block + "out_proj", .rows = config.hidden_size},
                                         values, false));
  return w;
}

}  // namespace penstock
