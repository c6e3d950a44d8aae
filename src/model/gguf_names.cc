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
                                    {"lm_head.bias", "output.bias"}};

constexpr NamePair kLayerNames[] = {{"self_attn.q_proj", "attn_q"},
                                    {"self_attn.k_proj", "attn_k"},
                                    {"self_attn.v_proj", "attn_v"},
                                    {"self_attn.o_proj", "attn_output"},
                                    {"self_attn.qkv_proj", "attn_qkv"},
                                    {"self_attn.q_norm", "attn_q_norm"},
                                    {"self_attn.k_norm", "attn_k_norm"},
                                    {"self_attn.sinks", "attn_sinks"},
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
                                    {"input_layernorm", "attn_norm"}};

constexpr NamePair kTwoNorms[] = {{"post_attention_layernorm", "ffn_norm"}};
constexpr NamePair kGemmaNorms[] = {{"post_attention_layernorm", "post_attention_norm"},
                                    {"pre_feedforward_layernorm", "ffn_norm"},
                                    {"post_feedforward_layernorm", "post_ffw_norm"}};
constexpr NamePair kGptOssNorms[] = {{"post_attention_layernorm", "post_attention_norm"}};
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
    case GgufNorms::kGptOss:
      return kGptOssNorms;
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
  if (!Skip(name, "model.layers.")) return std::nullopt;
  const std::optional<int64_t> layer = SkipNumber(name);
  if (!layer) return std::nullopt;
  return absl::StrCat("blk.", *layer, ".");
}

std::string_view SkipSuffix(std::string_view& name) {
  for (const std::string_view suffix : {".weight", ".bias"}) {
    if (!absl::EndsWith(ToAbsl(name), ToAbsl(suffix))) continue;
    name.remove_suffix(suffix.size());
    return suffix;
  }
  return ".weight";  // such as self_attn.sinks
}

}  // namespace

std::optional<GgufName> GgufNameOf(const GgufArchitecture& arch, std::string_view name) {
  if (const auto whole = Lookup(kWholeNames, name)) return GgufName{.tensor = std::string(*whole)};
  const std::optional<std::string> layer = SkipLayer(name);
  if (!layer) return std::nullopt;
  const std::string_view suffix = SkipSuffix(name);
  if (Skip(name, "mlp.experts.") || Skip(name, "block_sparse_moe.experts.")) {
    const std::optional<int64_t> expert = SkipNumber(name);
    const std::optional<std::string_view> role = Lookup(kExpertNames, name);
    if (!expert || !role) return std::nullopt;
    const std::string stem = absl::StrCat(*layer, "ffn_", ToAbsl(*role));
    return GgufName{.tensor = absl::StrCat(stem, "_exps", ToAbsl(suffix)),
                    .expert = *expert,
                    .unstacked = absl::StrCat(stem, ".", *expert, ToAbsl(suffix))};
  }
  std::optional<std::string_view> found = Lookup(kLayerNames, name);
  if (!found) found = Lookup(NormsOf(arch.norms), name);
  if (!found) return std::nullopt;
  GgufName out{.tensor = absl::StrCat(*layer, ToAbsl(*found), ToAbsl(suffix))};
  if (arch.turned && *found == "attn_q") out.heads = GgufHeads::kQuery;
  if (arch.turned && *found == "attn_k") out.heads = GgufHeads::kKey;
  return out;
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
