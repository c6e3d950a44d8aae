#include "model/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "format/gguf.h"
#include "model/gguf_architecture.h"
#include "model/gguf_config_parts.h"
#include "model/gguf_keys.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxGgufLayers = 4096;

/// Predicting several tokens ahead takes layers of its own behind the network's; they are ignored.
void PutNumLayers(GgufKeys& keys, Json& out) {
  const int64_t ahead = keys.Int("nextn_predict_layers").value_or(0);
  const int64_t layers = keys.RequiredInt("block_count");
  if (layers > kMaxGgufLayers || ahead < 0 || ahead >= layers) {
    keys.Fail("block_count", absl::StrCat("expected more than the ", std::max<int64_t>(ahead, 0),
                                          " that predict ahead, and at most ", kMaxGgufLayers));
    return;
  }
  out["num_hidden_layers"] = layers - ahead;
}

void PutNorm(GgufKeys& keys, const GgufArchitecture& arch, Json& out) {
  const std::string_view key =
      arch.layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
  const std::optional<double> eps = keys.Float(key);
  if (!eps) return keys.Fail(key, "is missing, expected a float");
  out[arch.layer_norm ? "layer_norm_eps" : "rms_norm_eps"] = *eps;
}

void PutPlainHeads(GgufKeys& keys, const GgufArchitecture& arch, Json& out) {
  const int64_t heads = out["num_attention_heads"].get<int64_t>();
  const int64_t hidden = out["hidden_size"].get<int64_t>();
  const std::string_view suffix = arch.per_layer_heads ? "_swa" : "";
  const auto key = [&](std::string_view name) {
    return absl::StrCat("attention.", ToAbsl(name), ToAbsl(suffix));
  };
  const GgufValue* kv_heads = keys.Find("attention.head_count_kv");
  out["num_key_value_heads"] = arch.per_layer_heads && kv_heads != nullptr && kv_heads->is_array
                                   ? heads
                                   : keys.Int("attention.head_count_kv").value_or(heads);
  const int64_t head_dim =
      keys.Int(key("key_length")).value_or(hidden / std::max<int64_t>(heads, 1));
  out["head_dim"] = head_dim;
  if (keys.Int(key("value_length")).value_or(head_dim) != head_dim) {
    keys.Fail(key("value_length"), absl::StrCat("expected ", head_dim, ", as keys have"));
  }
  if (arch.per_layer_heads) {
    const int64_t full = keys.RequiredInt("attention.key_length");
    for (const std::string_view other : {"attention.value_length", "rope.dimension_count"}) {
      if (keys.Int(other).value_or(full) != full)
        keys.Fail(other, absl::StrCat("expected ", full, ", as keys have"));
    }
    return;
  }
  const int64_t rotary = keys.Int("rope.dimension_count").value_or(head_dim);
  if (rotary < 1 || rotary > head_dim) {
    return keys.Fail("rope.dimension_count", absl::StrCat("expected 1 to ", head_dim));
  }
  // Half a dimension more: the reader's rounding down gives the number itself.
  out["partial_rotary_factor"] =
      std::min((static_cast<double>(rotary) + 0.5) / static_cast<double>(head_dim), 1.0);
}

void PutSizes(GgufKeys& keys, const GgufArchitecture& arch, Json& out) {
  out["hidden_size"] = keys.RequiredInt("embedding_length");
  out["num_attention_heads"] = keys.RequiredInt("attention.head_count");
  if (const auto inner = keys.Int("feed_forward_length")) out["intermediate_size"] = *inner;
  out["max_position_embeddings"] = keys.RequiredInt("context_length");
  PutNumLayers(keys, out);
  PutNorm(keys, arch, out);
  if (arch.latent) {
    PutGgufLatent(keys, out);
  } else {
    PutPlainHeads(keys, arch, out);
  }
  const GgufTensor* table = keys.file().FindTensor("token_embd.weight");
  if (table == nullptr || table->shape.size() != 2) {
    keys.Keep(absl::InvalidArgumentError(
        absl::StrCat(keys.file().paths().front(),
                     ": tensor \"token_embd.weight\" is missing, expected a matrix")));
    return;
  }
  out["vocab_size"] = table->shape[0];
  out["architectures"] = {arch.hf_class};
  out["model_type"] = arch.model_type;
}

/// What the tensors say and the keys do not.
void PutWhatTensorsSay(const Gguf& file, Json& out) {
  const auto has = [&](std::string_view name) { return file.FindTensor(name) != nullptr; };
  out["tie_word_embeddings"] = !has("output.weight");
  bool attention_bias = false;
  bool qk_norm = false;
  for (int64_t i = 0; i < out["num_hidden_layers"].get<int64_t>(); ++i) {
    const std::string layer = absl::StrCat("blk.", i, ".");
    attention_bias |=
        has(layer + "attn_q.bias") || has(layer + "attn_qkv.bias") || has(layer + "attn_q_a.bias");
    qk_norm |= has(layer + "attn_q_norm.weight");
  }
  out["attention_bias"] = attention_bias;
  out["use_qk_norm"] = qk_norm;
  out["mlp_bias"] = has("blk.0.ffn_down.bias");
  const GgufTensor* matrix = file.FindTensor("blk.0.attn_output.weight");
  if (matrix == nullptr) matrix = file.FindTensor("blk.0.ssm_out.weight");
  const std::optional<DType> dtype = matrix != nullptr ? PlainGgmlType(matrix->type) : std::nullopt;
  out["torch_dtype"] = DTypeName(dtype.value_or(DType::kFloat32));
}

void PutWindows(GgufKeys& keys, const GgufArchitecture& arch, Json& out) {
  if (arch.windows == GgufWindows::kNone) return;
  const int64_t window = keys.Int("attention.sliding_window").value_or(0);
  if (window <= 0) {
    if (arch.per_layer_heads) keys.Fail("attention.sliding_window", "is missing");
    return;
  }
  out["sliding_window"] = window;
  if (arch.windows == GgufWindows::kAll) return;
  const int64_t layers = out["num_hidden_layers"].get<int64_t>();
  constexpr std::string_view kPattern = "attention.sliding_window_pattern";
  const GgufValue* pattern = keys.Find(kPattern);
  int64_t every = arch.window_pattern;
  if (pattern != nullptr && !pattern->is_integer()) {
    return keys.Fail(kPattern, "expected an integer or an array of bools");
  }
  const bool by_layer = pattern != nullptr && pattern->is_array;
  if (by_layer && pattern->size < static_cast<uint64_t>(layers)) {
    return keys.Fail(kPattern, absl::StrCat("expected one entry for each of ", layers, " layers"));
  }
  if (pattern != nullptr && !by_layer) every = pattern->Int(0);
  if (every < 1) return keys.Fail(kPattern, "expected at least 1");
  Json types = Json::array();
  for (int64_t i = 0; i < layers; ++i) {
    const bool slides = by_layer ? pattern->Int(i) != 0 : (i + 1) % every != 0;
    types.push_back(slides ? "sliding_attention" : "full_attention");
  }
  out["layer_types"] = std::move(types);
}

void PutFamily(GgufKeys& keys, const GgufArchitecture& arch, Json& out) {
  if (arch.norms == GgufNorms::kGemma) {
    out["hidden_activation"] = "gelu_pytorch_tanh";
    const bool second = arch.name == "gemma2";
    const auto attention_cap = keys.Float("attn_logit_softcapping");
    const auto final_cap = keys.Float("final_logit_softcapping");
    if (second || attention_cap) out["attn_logit_softcapping"] = attention_cap.value_or(50.0);
    if (second || final_cap) out["final_logit_softcapping"] = final_cap.value_or(30.0);
    if (arch.per_layer_heads) return;
    // The file leaves it out; the 27B models, told by their depth, scale by hidden / heads.
    const int64_t depth = out["num_hidden_layers"].get<int64_t>();
    const bool largest = depth == (second ? 46 : 62);
    const int64_t heads = std::max<int64_t>(out["num_attention_heads"].get<int64_t>(), 1);
    double scalar = largest ? out["hidden_size"].get<double>() / static_cast<double>(heads)
                            : out["head_dim"].get<double>();
    if (const auto scale = keys.Float("attention.scale"); scale && *scale > 0) {
      scalar = 1.0 / (*scale * *scale);
    }
    out["query_pre_attn_scalar"] = scalar;
  }
  if (arch.name == "cohere2") {
    const auto scale = keys.Float("logit_scale");
    if (!scale) keys.Fail("logit_scale", "is missing, expected a float");
    out["logit_scale"] = scale.value_or(1.0);
  }
  if (!arch.multipliers) return;
  if (const auto v = keys.Float("embedding_scale")) out["embedding_multiplier"] = *v;
  if (const auto v = keys.Float("residual_scale")) out["residual_multiplier"] = *v;
  if (const auto v = keys.Float("logit_scale")) out["logits_scaling"] = *v;
  if (const auto v = keys.Float("attention.scale")) out["attention_multiplier"] = *v;
}

/// The config.json, and the keys that it leaves out and that change nothing.
absl::StatusOr<Json> Converted(const Gguf& file, std::vector<std::string>& ignored) {
  ASSIGN_OR_RETURN(const GgufArchitecture arch, ArchitectureOf(file));
  GgufKeys keys(file, arch.name);
  Json out = Json::object();
  PutSizes(keys, arch, out);
  RETURN_IF_ERROR(keys.status());
  PutWhatTensorsSay(file, out);
  PutWindows(keys, arch, out);
  RETURN_IF_ERROR(keys.status());
  if (arch.per_layer_heads) PutGgufPerLayerHeads(keys, out);
  if (arch.delta) PutGgufDelta(keys, out);
  PutGgufExperts(keys, arch, out);
  PutGgufRope(keys, arch, out);
  PutFamily(keys, arch, out);
  if (!keys.Bool("attention.causal").value_or(true)) keys.Fail("attention.causal", "expected true");
  ignored = SortUnreadKeys(keys, arch);
  RETURN_IF_ERROR(keys.status());
  return out;
}

}  // namespace

absl::StatusOr<std::string> GgufConfigJson(const Gguf& file) {
  std::vector<std::string> ignored;
  ASSIGN_OR_RETURN(const Json json, Converted(file, ignored));
  return json.dump();
}

absl::StatusOr<std::vector<std::string>> GgufIgnoredKeys(const Gguf& file) {
  std::vector<std::string> ignored;
  ASSIGN_OR_RETURN(const Json json, Converted(file, ignored));
  return ignored;
}

}  // namespace penstock
