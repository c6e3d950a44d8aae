#include "model/gguf_names.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/strings.h"

namespace penstock {
namespace {

struct NamePair {
  std::string_view hub;
  std::string_view gguf;
};

constexpr NamePair kWholeNames[] = {{"model.embed_tokens.weight", "token_embd.weight"},
                                    {"model.norm.weight", "output_norm.weight"},
                                    {"lm_head.weight", "output.weight"},
                                    {"lm_head.bias", "output.bias"},
                                    {"transformer.wte.weight", "token_embd.weight"},
                                    {"transformer.wpe.weight", "position_embd.weight"},
                                    {"transformer.ln_f.weight", "output_norm.weight"},
                                    {"transformer.ln_f.bias", "output_norm.bias"}};

constexpr NamePair kLayerNames[] = {{"self_attn.q_proj", "attn_q"},
                                    {"self_attn.k_proj", "attn_k"},
                                    {"self_attn.v_proj", "attn_v"},
                                    {"self_attn.o_proj", "attn_output"},
                                    {"self_attn.qkv_proj", "attn_qkv"},
                                    {"self_attn.q_norm", "attn_q_norm"},
                                    {"self_attn.k_norm", "attn_k_norm"},
                                    {"self_attn.q_a_proj", "attn_q_a"},
                                    {"self_attn.q_a_layernorm", "attn_q_a_norm"},
                                    {"self_attn.q_b_proj", "attn_q_b"},
                                    {"self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"},
                                    {"self_attn.kv_a_layernorm", "attn_kv_a_norm"},
                                    {"self_attn.kv_b_proj", "attn_kv_b"},
                                    {"linear_attn.in_proj_qkv", "attn_qkv"},
                                    {"linear_attn.in_proj_z", "attn_gate"},
                                    {"linear_attn.in_proj_b", "ssm_beta"},
                                    {"linear_attn.in_proj_a", "ssm_alpha"},
                                    {"linear_attn.conv1d", "ssm_conv1d"},
                                    {"linear_attn.norm", "ssm_norm"},
                                    {"linear_attn.out_proj", "ssm_out"},
                                    {"mlp.gate_proj", "ffn_gate"},
                                    {"mlp.up_proj", "ffn_up"},
                                    {"mlp.gate_up_proj", "ffn_up"},
                                    {"mlp.down_proj", "ffn_down"},
                                    {"mlp.gate", "ffn_gate_inp"},
                                    {"mlp.router", "ffn_gate_inp"},
                                    {"block_sparse_moe.gate", "ffn_gate_inp"},
                                    {"mlp.shared_expert_gate", "ffn_gate_inp_shexp"},
                                    {"mlp.shared_expert.gate_proj", "ffn_gate_shexp"},
                                    {"mlp.shared_expert.up_proj", "ffn_up_shexp"},
                                    {"mlp.shared_expert.down_proj", "ffn_down_shexp"},
                                    {"mlp.shared_experts.gate_proj", "ffn_gate_shexp"},
                                    {"mlp.shared_experts.up_proj", "ffn_up_shexp"},
                                    {"mlp.shared_experts.down_proj", "ffn_down_shexp"},
                                    {"input_layernorm", "attn_norm"}};

/// Those without a suffix of the checkpoint's.
constexpr NamePair kBareNames[] = {{"self_attn.sinks", "attn_sinks.weight"},
                                   {"mlp.gate.e_score_correction_bias", "exp_probs_b.bias"},
                                   {"linear_attn.A_log", "ssm_a"},
                                   {"linear_attn.dt_bias", "ssm_dt.bias"},
                                   {"layer_scalar", "layer_output_scale.weight"}};

constexpr NamePair kGpt2Names[] = {{"ln_1", "attn_norm"},          {"attn.c_attn", "attn_qkv"},
                                   {"attn.c_proj", "attn_output"}, {"ln_2", "ffn_norm"},
                                   {"mlp.c_fc", "ffn_up"},         {"mlp.c_proj", "ffn_down"}};

struct NameOrder {
  std::string_view hub;
  GgufOrder order;
};
constexpr NameOrder kDeltaOrders[] = {{"linear_attn.in_proj_qkv", GgufOrder::kMixedRows},
                                      {"linear_attn.conv1d", GgufOrder::kMixedRows},
                                      {"linear_attn.in_proj_z", GgufOrder::kValueRows},
                                      {"linear_attn.in_proj_b", GgufOrder::kValues},
                                      {"linear_attn.in_proj_a", GgufOrder::kValues},
                                      {"linear_attn.A_log", GgufOrder::kValues},
                                      {"linear_attn.dt_bias", GgufOrder::kValues},
                                      {"linear_attn.out_proj", GgufOrder::kValueColumns}};

constexpr NamePair kTwoNorms[] = {{"post_attention_layernorm", "ffn_norm"}};
constexpr NamePair kGemmaNorms[] = {{"post_attention_layernorm", "post_attention_norm"},
                                    {"pre_feedforward_layernorm", "ffn_norm"},
                                    {"post_feedforward_layernorm", "post_ffw_norm"}};
constexpr NamePair kAfterAttentionNorms[] = {{"post_attention_layernorm", "post_attention_norm"}};
constexpr NamePair kOlmo2Norms[] = {{"post_attention_layernorm", "post_attention_norm"},
                                    {"post_feedforward_layernorm", "post_ffw_norm"}};
constexpr NamePair kGlm4Norms[] = {{"post_self_attn_layernorm", "post_attention_norm"},
                                   {"post_attention_layernorm", "ffn_norm"},
                                   {"post_mlp_layernorm", "post_ffw_norm"}};

constexpr NamePair kExpertNames[] = {{"gate_proj", "gate"}, {"up_proj", "up"},
                                     {"down_proj", "down"}, {"w1", "gate"},
                                     {"w3", "up"},          {"w2", "down"}};

absl::Span<const NamePair> NormsOf(GgufNorms norms) {
  switch (norms) {
    case GgufNorms::kGemma:
      return kGemmaNorms;
    case GgufNorms::kAfterAttention:
      return kAfterAttentionNorms;
    case GgufNorms::kOlmo2:
      return kOlmo2Norms;
    case GgufNorms::kGlm4:
      return kGlm4Norms;
    default:
      return kTwoNorms;
  }
}

std::optional<std::string_view> Lookup(absl::Span<const NamePair> names, std::string_view name) {
  for (const NamePair& pair : names) {
    if (pair.hub == name) return pair.gguf;
  }
  return std::nullopt;
}

bool Skip(std::string_view& text, std::string_view prefix) {
  if (text.substr(0, prefix.size()) != prefix) return false;
  text.remove_prefix(prefix.size());
  return true;
}

/// Up to six digits and the dot behind them; nullopt where `text` does not begin so.
std::optional<int64_t> SkipNumber(std::string_view& text) {
  int64_t number = 0;
  size_t digits = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') {
    number = number * 10 + (text[digits++] - '0');
    if (digits > 6) return std::nullopt;
  }
  if (digits == 0 || digits == text.size() || text[digits] != '.') return std::nullopt;
  text.remove_prefix(digits + 1);
  return number;
}

/// "blk.<layer>." of "model.layers.<layer>.", which is taken off `name`.
std::optional<std::string> SkipLayer(std::string_view& name) {
  if (!Skip(name, "model.layers.") && !Skip(name, "transformer.h.")) return std::nullopt;
  const std::optional<int64_t> layer = SkipNumber(name);
  if (!layer) return std::nullopt;
  return absl::StrCat("blk.", *layer, ".");
}

/// ".weight", ".bias", or "".
std::string_view SkipSuffix(std::string_view& name) {
  for (const std::string_view suffix : {".weight", ".bias"}) {
    if (!absl::EndsWith(ToAbsl(name), ToAbsl(suffix))) continue;
    name.remove_suffix(suffix.size());
    return suffix;
  }
  return "";
}

GgufOrder OrderOf(const GgufArchitecture& arch, std::string_view hub) {
  if (arch.turned && hub == "self_attn.q_proj") return GgufOrder::kQueryHeads;
  if (arch.turned && hub == "self_attn.k_proj") return GgufOrder::kKeyHeads;
  for (const NameOrder& entry : kDeltaOrders) {
    if (entry.hub == hub) return entry.order;
  }
  return GgufOrder::kSame;
}

}  // namespace

std::optional<GgufName> GgufNameOf(const GgufArchitecture& arch, std::string_view name) {
  if (const auto whole = Lookup(kWholeNames, name)) return GgufName{.tensor = std::string(*whole)};
  const std::optional<std::string> layer = SkipLayer(name);
  if (!layer) return std::nullopt;
  if (const auto bare = Lookup(kBareNames, name)) {
    return GgufName{.tensor = absl::StrCat(*layer, ToAbsl(*bare)), .order = OrderOf(arch, name)};
  }
  const std::string_view suffix = SkipSuffix(name);
  if (suffix.empty()) return std::nullopt;
  if (Skip(name, "mlp.experts.") || Skip(name, "block_sparse_moe.experts.")) {
    const std::optional<int64_t> expert = SkipNumber(name);
    const std::optional<std::string_view> role = Lookup(kExpertNames, name);
    if (!expert || !role) return std::nullopt;
    const std::string stem = absl::StrCat(*layer, "ffn_", ToAbsl(*role));
    return GgufName{.tensor = absl::StrCat(stem, "_exps", ToAbsl(suffix)),
                    .expert = *expert,
                    .unstacked = absl::StrCat(stem, ".", *expert, ToAbsl(suffix))};
  }
  std::optional<std::string_view> found =
      Lookup(arch.gpt2 ? absl::MakeConstSpan(kGpt2Names) : absl::MakeConstSpan(kLayerNames), name);
  if (!found) found = Lookup(NormsOf(arch.norms), name);
  if (!found) return std::nullopt;
  return GgufName{.tensor = absl::StrCat(*layer, ToAbsl(*found), ToAbsl(suffix)),
                  .order = OrderOf(arch, name)};
}

std::optional<GgufLatentUp> GgufLatentUpOf(std::string_view name) {
  const std::optional<std::string> layer = SkipLayer(name);
  if (!layer || name != "self_attn.kv_b_proj") return std::nullopt;
  return GgufLatentUp{*layer + "attn_k_b.weight", *layer + "attn_v_b.weight"};
}

std::optional<GgufStack> GgufStackOf(const GgufArchitecture& arch, std::string_view name) {
  if (arch.experts != GgufExperts::kGptOss) return std::nullopt;
  const std::optional<std::string> layer = SkipLayer(name);
  if (!layer || !Skip(name, "mlp.experts.")) return std::nullopt;
  GgufStack out;
  out.bias = absl::EndsWith(ToAbsl(name), "_bias");
  if (out.bias) name.remove_suffix(5);
  if (name == "gate_up_proj") {
    out.tensors[0] = absl::StrCat(*layer, "ffn_gate_exps");
    out.tensors[1] = absl::StrCat(*layer, "ffn_up_exps");
    out.num_tensors = 2;
  } else if (name == "down_proj") {
    out.tensors[0] = absl::StrCat(*layer, "ffn_down_exps");
    out.num_tensors = 1;
  } else {
    return std::nullopt;
  }
  for (int32_t i = 0; i < out.num_tensors; ++i) {
    absl::StrAppend(&out.tensors[i], out.bias ? ".bias" : ".weight");
  }
  return out;
}

}  // namespace penstock
