#include "model/weight_blocks.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "model/host_tensor.h"
#include "model/sliced_columns.h"

namespace penstock {
namespace {

absl::StatusOr<ExpertWeights> LoadExpert(const ModelConfig& config, const std::string& prefix,
                                         int32_t index, const ModelShard& shard,
                                         WeightLoader& loader) {
  ExpertLinears expert = ExpertLinearsOf(config, prefix, index);
  if (!shard.whole()) {
    TakeRows(InnerRows(expert.down.k, true, shard), expert.gate_up);
    TakeColumns(shard, expert.down);
  }
  ExpertWeights w;
  ASSIGN_OR_RETURN(w.gate_up, loader.Linear(expert.gate_up.parts, expert.gate_up.k, false));
  ASSIGN_OR_RETURN(w.down, loader.Linear(expert.down.parts, expert.down.k, false));
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

}  // namespace

absl::StatusOr<std::unique_ptr<MixtureWeights>> LoadMixture(const ModelConfig& config,
                                                            const LayerLinear& router,
                                                            const std::string& prefix,
                                                            const ModelShard& shard,
                                                            WeightLoader& loader) {
  const ExpertsConfig& e = config.experts;
  auto w = std::make_unique<MixtureWeights>();
  const std::string block = absl::StrCat(prefix, ToAbsl(e.block));
  ASSIGN_OR_RETURN(w->router, loader.Linear(router.parts, router.k, e.router_bias));
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
      ASSIGN_OR_RETURN(ExpertWeights expert, LoadExpert(config, prefix, i, shard, loader));
      w->experts.push_back(std::move(expert));
    }
  }
  if (e.shared_intermediate_size > 0) {
    ASSIGN_OR_RETURN(ExpertWeights shared,
                     LoadExpert(config, prefix, e.num_experts, shard, loader));
    w->experts.push_back(std::move(shared));
  }
  return w;
}

absl::StatusOr<std::unique_ptr<LatentWeights>> LoadLatent(const ModelConfig& config,
                                                          const HeadShape& heads,
                                                          const LayerLinears& linears,
                                                          const std::string& prefix,
                                                          WeightLoader& loader) {
  const LatentConfig& c = config.latent;
  const std::string attention = prefix + "self_attn.";
  auto w = std::make_unique<LatentWeights>();
  if (c.q_rank > 0) {
    ASSIGN_OR_RETURN(w->q_a, loader.Linear(linears.q_a.parts, linears.q_a.k, config.qkv_bias));
    ASSIGN_OR_RETURN(w->q_a_norm,
                     loader.Norm(attention + "q_a_layernorm", NormType::kRms, c.q_rank));
  }
  ASSIGN_OR_RETURN(w->q_nope, loader.Linear(linears.q_nope.parts, linears.q_nope.k, false));
  for (const RowsOf& rope : linears.q_rope.parts) {
    ASSIGN_OR_RETURN(PackedLinear packed, loader.Linear(rope, linears.q_rope.k, false));
    w->q_rope.push_back(std::move(packed));
  }
  ASSIGN_OR_RETURN(w->kv_a, loader.Linear(linears.kv_a.parts, linears.kv_a.k, config.qkv_bias));
  ASSIGN_OR_RETURN(w->kv_a_norm,
                   loader.Norm(attention + "kv_a_layernorm", NormType::kRms, c.kv_rank));
  const int64_t up = c.nope_dim + c.value_dim;
  const RowsOf& both = linears.kv_b.parts[0];
  ASSIGN_OR_RETURN(const HostTensor kv_b, loader.Numbers(both.name, both.rows, c.kv_rank));
  for (int64_t h = 0; h < heads.num_heads; ++h) {
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
                                                        const LayerLinears& linears,
                                                        const std::string& prefix,
                                                        WeightLoader& loader) {
  const DeltaShape& d = config.delta;
  const std::string block = prefix + "linear_attn.";
  auto w = std::make_unique<DeltaWeights>();
  ASSIGN_OR_RETURN(w->qkv, loader.Linear(linears.qkv.parts, linears.qkv.k, false));
  ASSIGN_OR_RETURN(w->z, loader.Linear(linears.z.parts, linears.z.k, false));
  ASSIGN_OR_RETURN(w->ba, loader.Linear(linears.ba.parts, linears.ba.k, false));
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
  ASSIGN_OR_RETURN(w->out, loader.Linear(linears.o.parts, linears.o.k, false));
  return w;
}

}  // namespace penstock
