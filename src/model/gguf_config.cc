#include "model/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "format/gguf.h"
#include "model/gguf_architecture.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxGgufLayers = 4096;
constexpr int64_t kMaxRopePairs = 4096;

/// Reads keys under the architecture's prefix into a config.json; the first problem sticks.
class GgufKeys {
 public:
  GgufKeys(const Gguf& file, std::string_view prefix) : file_(file), prefix_(prefix) {}

  std::string Key(std::string_view key) const {
    return absl::StrCat(ToAbsl(prefix_), ".", ToAbsl(key));
  }
  const GgufValue* Find(std::string_view key) const { return file_.Find(Key(key)); }

  /// One number, or an array that says the same of every layer.
  std::optional<int64_t> Int(std::string_view key) {
    const GgufValue* value = Find(key);
    if (value != nullptr && value->is_array && value->is_integer() && value->size > 0) {
      for (uint64_t i = 1; i < value->size; ++i) {
        if (value->Int(i) != value->Int(0)) {
          Fail(key, "expected the same number for every layer");
          return std::nullopt;
        }
      }
      return value->Int(0);
    }
    return Kept(file_.Int(Key(key)));
  }
  int64_t RequiredInt(std::string_view key) {
    const std::optional<int64_t> value = Int(key);
    if (!value) Fail(key, "is missing, expected an integer");
    return value.value_or(0);
  }
  std::optional<double> Float(std::string_view key) {
    const std::optional<double> value = Kept(file_.Float(Key(key)));
    if (value && !std::isfinite(*value)) Fail(key, "expected a finite number");
    return value;
  }
  std::optional<std::string_view> String(std::string_view key) {
    return Kept(file_.String(Key(key)));
  }
  std::optional<bool> Bool(std::string_view key) { return Kept(file_.Bool(Key(key))); }

  void Fail(std::string_view key, std::string_view problem) {
    Keep(absl::InvalidArgumentError(
        absl::StrCat(file_.paths().front(), ": ", Key(key), ": ", ToAbsl(problem))));
  }
  void Keep(const absl::Status& status) {
    if (status_.ok()) status_ = status;
  }
  const absl::Status& status() const { return status_; }
  const Gguf& file() const { return file_; }

 private:
  template <class T>
  std::optional<T> Kept(const absl::StatusOr<std::optional<T>>& value) {
    if (value.ok()) return *value;
    Keep(value.status());
    return std::nullopt;
  }

  const Gguf& file_;
  std::string_view prefix_;
  absl::Status status_;
};

void PutSizes(GgufKeys& keys, const GgufArchitecture& arch, Json& out) {
  const int64_t hidden = keys.RequiredInt("embedding_length");
  const int64_t heads = keys.RequiredInt("attention.head_count");
  out["hidden_size"] = hidden;
  out["num_hidden_layers"] = keys.RequiredInt("block_count");
  out["num_attention_heads"] = heads;
  out["num_key_value_heads"] = keys.Int("attention.head_count_kv").value_or(heads);
  if (const auto inner = keys.Int("feed_forward_length")) out["intermediate_size"] = *inner;
  out["max_position_embeddings"] = keys.RequiredInt("context_length");
  if (const auto eps = keys.Float("attention.layer_norm_rms_epsilon")) {
    out["rms_norm_eps"] = *eps;
  } else {
    keys.Fail("attention.layer_norm_rms_epsilon", "is missing, expected a float");
  }
  const int64_t head_dim =
      keys.Int("attention.key_length").value_or(hidden / std::max<int64_t>(heads, 1));
  out["head_dim"] = head_dim;
  if (keys.Int("attention.value_length").value_or(head_dim) != head_dim) {
    keys.Fail("attention.value_length", absl::StrCat("expected ", head_dim, ", as keys have"));
  }
  const int64_t rotary = keys.Int("rope.dimension_count").value_or(head_dim);
  if (rotary < 1 || rotary > head_dim) {
    keys.Fail("rope.dimension_count", absl::StrCat("expected 1 to ", head_dim));
  } else if (rotary < head_dim) {
    // Half a dimension more: the reader's rounding down gives the number itself.
    out["partial_rotary_factor"] =
        (static_cast<double>(rotary) + 0.5) / static_cast<double>(head_dim);
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
  out["attention_bias"] = has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias");
  out["mlp_bias"] = has("blk.0.ffn_down.bias");
  const GgufTensor* matrix = file.FindTensor("blk.0.attn_output.weight");
  const std::optional<DType> dtype = matrix != nullptr ? PlainGgmlType(matrix->type) : std::nullopt;
  out["torch_dtype"] = DTypeName(dtype.value_or(DType::kFloat32));
}

void PutWindows(GgufKeys& keys, const GgufArchitecture& arch, Json& out) {
  const int64_t window = keys.Int("attention.sliding_window").value_or(0);
  if (arch.windows == GgufWindows::kNone || window <= 0) return;
  out["sliding_window"] = window;
  if (arch.windows == GgufWindows::kAll) return;
  const int64_t layers = out["num_hidden_layers"].get<int64_t>();
  if (layers < 1 || layers > kMaxGgufLayers) {
    return keys.Fail("block_count", absl::StrCat("expected 1 to ", kMaxGgufLayers));
  }
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

void PutExperts(GgufKeys& keys, const GgufArchitecture& arch, Json& out) {
  if (arch.experts == GgufExperts::kNone) return;
  const int64_t count = keys.RequiredInt("expert_count");
  out["num_experts_per_tok"] = keys.RequiredInt("expert_used_count");
  const std::optional<int64_t> inner = keys.Int("expert_feed_forward_length");
  switch (arch.experts) {
    case GgufExperts::kMixtral:
    case GgufExperts::kGptOss:
      out["num_local_experts"] = count;
      if (inner) out["intermediate_size"] = *inner;
      break;
    case GgufExperts::kOlmoe:
      out["num_experts"] = count;
      if (inner) out["intermediate_size"] = *inner;
      break;
    default:
      out["num_experts"] = count;
      out["decoder_sparse_step"] = 1;
      if (inner) out["moe_intermediate_size"] = *inner;
      if (!inner) keys.Fail("expert_feed_forward_length", "is missing, expected an integer");
      if (const auto shared = keys.Int("expert_shared_feed_forward_length")) {
        out["shared_expert_intermediate_size"] = *shared;
      }
      if (!out.contains("intermediate_size") && inner) out["intermediate_size"] = *inner;
  }
  const bool normalized = arch.name == "qwen3moe";
  out["norm_topk_prob"] = keys.Bool("expert_weights_norm").value_or(normalized);
}

/// The float32 values of a vector; empty where it is absent.
std::vector<double> FactorsOf(GgufKeys& keys, std::string_view name) {
  std::vector<double> out;
  const GgufTensor* tensor = keys.file().FindTensor(name);
  if (tensor == nullptr) return out;
  const bool fits = tensor->type == GgmlType::kF32 && tensor->shape.size() == 1 &&
                    tensor->shape[0] <= kMaxRopePairs;
  std::vector<float> values(fits ? tensor->shape[0] : 0);
  if (fits)
    DequantizeGgmlRows(tensor->type, tensor->data.data(), 1, tensor->shape[0], values.data());
  if (!fits || !std::all_of(values.begin(), values.end(),
                            [](float f) { return std::isfinite(f) && f > 0; })) {
    keys.Keep(absl::InvalidArgumentError(
        absl::StrCat(keys.file().paths().front(), ": tensor \"", ToAbsl(name),
                     "\": expected a vector of positive F32 numbers")));
  }
  out.assign(values.begin(), values.end());
  return out;
}

/// Scaling by one number, or by tensors of factors.
void PutRope(GgufKeys& keys, const GgufArchitecture& arch, Json& out) {
  out["rope_theta"] = keys.Float("rope.freq_base").value_or(10000.0);
  if (arch.name == "gemma3") {
    out["rope_local_base_freq"] = keys.Float("rope.freq_base_swa").value_or(10000.0);
  }
  const std::string_view type = keys.String("rope.scaling.type").value_or("none");
  const double factor =
      keys.Float("rope.scaling.factor").value_or(keys.Float("rope.scale_linear").value_or(1.0));
  const std::optional<double> magnitude = keys.Float("rope.scaling.attn_factor");
  const int64_t original = keys.Int("rope.scaling.original_context_length")
                               .value_or(out["max_position_embeddings"].get<int64_t>());
  const std::vector<double> all = FactorsOf(keys, "rope_freqs.weight");
  const std::vector<double> longs = FactorsOf(keys, "rope_factors_long.weight");
  const std::vector<double> shorts = FactorsOf(keys, "rope_factors_short.weight");
  Json scaling = {{"original_max_position_embeddings", original}};
  if (!all.empty() && (type == "none" || type == "longrope" || type == "llama3")) {
    scaling.update({{"rope_type", "longrope"},
                    {"short_factor", all},
                    {"long_factor", all},
                    {"attention_factor", 1.0}});
  } else if (!longs.empty() && !shorts.empty() && (type == "none" || type == "longrope")) {
    scaling.update({{"rope_type", "longrope"}, {"short_factor", shorts}, {"long_factor", longs}});
    if (magnitude) scaling["attention_factor"] = *magnitude;
    out["original_max_position_embeddings"] = original;
  } else if (!all.empty() || !longs.empty() || !shorts.empty() || type == "longrope") {
    return keys.Fail("rope.scaling.type", "does not fit the tensors of factors that the file has");
  } else if (type == "linear" || (type == "none" && factor != 1.0)) {
    scaling.update({{"rope_type", "linear"}, {"factor", factor}});
  } else if (type == "yarn") {
    scaling.update({{"rope_type", "yarn"}, {"factor", factor}});
    scaling["beta_fast"] = keys.Float("rope.scaling.yarn_beta_fast").value_or(32.0);
    scaling["beta_slow"] = keys.Float("rope.scaling.yarn_beta_slow").value_or(1.0);
    if (arch.experts == GgufExperts::kGptOss) scaling["truncate"] = false;
    const double own =
        magnitude.value_or(keys.Float("rope.scaling.yarn_attn_factor").value_or(1.0));
    if (own != 1.0 && factor > 1)
      scaling["attention_factor"] = own * (1.0 + 0.1 * std::log(factor));
  } else if (type == "none") {
    return;
  } else {
    return keys.Fail("rope.scaling.type",
                     absl::StrCat("\"", absl::CEscape(ToAbsl(type.substr(0, 64))),
                                  "\" is not known; known are none, linear, yarn, longrope"));
  }
  out["rope_scaling"] = std::move(scaling);
}

void PutFamily(GgufKeys& keys, const GgufArchitecture& arch, Json& out) {
  if (arch.norms == GgufNorms::kGemma) {
    out["hidden_activation"] = "gelu_pytorch_tanh";
    const bool second = arch.name == "gemma2";
    const auto attention_cap = keys.Float("attn_logit_softcapping");
    const auto final_cap = keys.Float("final_logit_softcapping");
    if (second || attention_cap) out["attn_logit_softcapping"] = attention_cap.value_or(50.0);
    if (second || final_cap) out["final_logit_softcapping"] = final_cap.value_or(30.0);
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
  if (!arch.multipliers) return;
  if (const auto v = keys.Float("embedding_scale")) out["embedding_multiplier"] = *v;
  if (const auto v = keys.Float("residual_scale")) out["residual_multiplier"] = *v;
  if (const auto v = keys.Float("logit_scale")) out["logits_scaling"] = *v;
  if (const auto v = keys.Float("attention.scale")) out["attention_multiplier"] = *v;
}

/// Keys that change the network and have no place in what is written here.
void RefuseGgufKeys(GgufKeys& keys, const GgufArchitecture& arch) {
  constexpr std::string_view kNever[] = {
      "attention.max_alibi_bias",    "attention.clamp_kqv",      "attention.layer_norm_epsilon",
      "attention.temperature_scale", "router_logit_softcapping", "interleave_moe_layer_step",
      "leading_dense_block_count",   "expert_group_count",       "nextn_predict_layers",
      "attention.q_lora_rank",       "attention.kv_lora_rank",   "swin_norm",
      "attention.shared_kv_layers",  "full_attention_interval",  "ssm.state_size"};
  constexpr std::string_view kMultipliers[] = {"embedding_scale", "residual_scale", "logit_scale"};
  const auto is_set = [&](std::string_view key) {
    const GgufValue* value = keys.Find(key);
    if (value == nullptr) return false;
    if (value->is_array || value->type == GgufType::kString) return true;
    const double number =
        value->is_integer() ? static_cast<double>(value->Int(0)) : value->Float(0);
    return number != 0.0;
  };
  for (const std::string_view key : kNever) {
    if (is_set(key)) keys.Fail(key, absl::StrCat("is not supported for ", ToAbsl(arch.name)));
  }
  for (const std::string_view key : kMultipliers) {
    if (!arch.multipliers && is_set(key)) {
      keys.Fail(key, absl::StrCat("is not supported for ", ToAbsl(arch.name)));
    }
  }
  if (!keys.Bool("attention.causal").value_or(true)) keys.Fail("attention.causal", "expected true");
}

}  // namespace

absl::StatusOr<std::string> GgufConfigJson(const Gguf& file) {
  ASSIGN_OR_RETURN(const GgufArchitecture arch, ArchitectureOf(file));
  GgufKeys keys(file, arch.name);
  Json out = Json::object();
  PutSizes(keys, arch, out);
  RETURN_IF_ERROR(keys.status());
  PutWhatTensorsSay(file, out);
  PutWindows(keys, arch, out);
  PutExperts(keys, arch, out);
  PutRope(keys, arch, out);
  PutFamily(keys, arch, out);
  RefuseGgufKeys(keys, arch);
  RETURN_IF_ERROR(keys.status());
  return out.dump();
}

}  // namespace penstock
