#include "model/model_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "format/json_text.h"
#include "model/config_parts.h"
#include "model/config_reader.h"
#include "model/families.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxConfigBytes = 4 << 20;

void ReadActivation(ConfigReader& config, const Family& family, ModelConfig& out) {
  std::string_view key = "hidden_act";
  for (const std::string_view other : {"hidden_activation", "activation_function"}) {
    if (config.Find(other) != nullptr) key = other;
  }
  const std::string name = config.String(key, family.activation);
  if (name == "silu" || name == "swish") {
    out.activation = Activation::kSilu;
  } else if (name == "gelu") {
    // The first Gemma's files say gelu and mean the approximation.
    out.activation =
        family.activation == "gelu_pytorch_tanh" ? Activation::kGeluTanh : Activation::kGelu;
  } else if (name == "gelu_pytorch_tanh" || name == "gelu_new" || name == "gelu_fast") {
    out.activation = Activation::kGeluTanh;
  } else if (name == "relu") {
    out.activation = Activation::kRelu;
  } else if (name == "relu2") {
    out.activation = Activation::kSquaredRelu;
  } else {
    config.Fail(key, absl::StrCat("\"", name,
                                  "\" is not one of silu, gelu, gelu_pytorch_tanh, relu, relu2"));
  }
}

DType ReadFileDType(ConfigReader& config) {
  std::string name = config.String("dtype", "");
  if (name.empty()) name = config.String("torch_dtype", "float32");
  if (name == "bfloat16") return DType::kBFloat16;
  if (name == "float16") return DType::kFloat16;
  return DType::kFloat32;
}

std::string FirstArchitecture(const Json& json) {
  const auto it = json.find("architectures");
  if (it == json.end() || !it->is_array() || it->empty() || !(*it)[0].is_string()) return "";
  return (*it)[0].get<std::string>();
}

/// Falcon's keys under the names that others have.
void RenameFalcon(Json& body, ConfigReader::FileNames& file_names) {
  const auto flag = [&](const char* key, bool otherwise) {
    const auto found = body.find(key);
    return found != body.end() && found->is_boolean() ? found->get<bool>() : otherwise;
  };
  const bool grouped = flag("new_decoder_architecture", false);
  const bool parallel = flag("parallel_attn", true);
  const auto rename = [&](const char* from, const char* to) {
    if (!body.contains(from)) return;
    body[to] = body[from];
    file_names[to] = from;
  };
  if (grouped) {
    rename("num_kv_heads", "num_key_value_heads");
    if (!body.contains("num_ln_in_parallel_attn") || body["num_ln_in_parallel_attn"].is_null())
      body["num_ln_in_parallel_attn"] = 2;
  } else {
    if (flag("multi_query", true)) body["num_key_value_heads"] = 1;
    body.erase("num_ln_in_parallel_attn");
  }
  body["use_parallel_residual"] = grouped || parallel;
  body["use_bias"] = flag("bias", false);
  const std::pair<const char*, const char*> names[] = {{"ffn_hidden_size", "intermediate_size"},
                                                       {"activation", "hidden_act"}};
  for (const auto& [from, to] : names) {
    if (!body.contains(to)) rename(from, to);
  }
}

/// The keys that a family's files call otherwise or leave out, in the words of the others.
Json Standardized(Json body, const Family& family, ConfigReader::FileNames& file_names) {
  constexpr std::pair<const char*, const char*> kNames[] = {
      {"n_embd", "hidden_size"},
      {"n_layer", "num_hidden_layers"},
      {"n_head", "num_attention_heads"},
      {"n_positions", "max_position_embeddings"},
      {"n_inner", "intermediate_size"},
      {"layer_norm_eps", "rms_norm_eps"},
      {"layer_norm_epsilon", "rms_norm_eps"},
      {"norm_epsilon", "rms_norm_eps"},
      {"norm_eps", "rms_norm_eps"},
      {"num_local_experts", "num_experts"},
      {"num_local_experts", "n_routed_experts"},
      {"num_experts", "num_local_experts"},
      {"moe_k", "num_experts_per_tok"},
      {"moe_layer_start_index", "first_k_dense_replace"},
      {"moe_layer_interval", "decoder_sparse_step"}};
  if (IsLayerNorm(family.norm)) body.erase("rms_norm_eps");
  const auto missing = [&](const char* key) { return !body.contains(key) || body[key].is_null(); };
  for (const auto& [from, to] : kNames) {
    if (missing(from) || !missing(to)) continue;
    body[to] = body[from];
    file_names[to] = from;
  }
  const Json defaults = Json::parse(family.defaults.begin(), family.defaults.end());
  for (const auto& [key, value] : defaults.items()) {
    if (!body.contains(key)) body[key] = value;
  }
  if (family.layout == Layout::kFalcon) RenameFalcon(body, file_names);
  const bool four_times = family.layout == Layout::kGpt2 || family.layout == Layout::kFalcon;
  if (four_times && missing("intermediate_size") && body["hidden_size"].is_number_integer() &&
      body["hidden_size"] > 0 && body["hidden_size"] < kMaxSize) {
    body["intermediate_size"] = 4 * body["hidden_size"].get<int64_t>();
  }
  if (family.experts != ExpertsRule::kNone && missing("intermediate_size") &&
      !missing("moe_intermediate_size")) {
    body["intermediate_size"] = body["moe_intermediate_size"];
    file_names["intermediate_size"] = "moe_intermediate_size";
  }
  return body;
}

void ReadBiases(ConfigReader& config, const Family& family, ModelConfig& out) {
  const bool by_config = config.Bool(
      "attention_bias", family.bias == BiasRule::kAlways || family.experts == ExpertsRule::kGptOss);
  switch (family.bias) {
    case BiasRule::kNever:
      break;
    case BiasRule::kQkv:
      out.qkv_bias = true;
      break;
    case BiasRule::kQkvByConfig:
      out.qkv_bias = by_config;
      break;
    case BiasRule::kQkvKey:
      out.qkv_bias = config.Bool("qkv_bias", true);
      break;
    case BiasRule::kConfig:
    case BiasRule::kAlways:
      out.qkv_bias = out.o_bias = by_config;
      break;
    case BiasRule::kConfigApart:
      out.qkv_bias = by_config;
      out.o_bias = config.Bool("attention_out_bias", false);
      break;
    case BiasRule::kUseBias:
      out.qkv_bias = out.o_bias = config.Bool("use_bias", false);
      break;
    case BiasRule::kUseQkvBias:
      out.qkv_bias = config.Bool("use_qkv_bias", false);
      break;
  }
  out.mlp_bias = family.mlp_bias || (family.mlp_bias_by_config && config.Bool("mlp_bias", false)) ||
                 (family.bias == BiasRule::kUseBias && out.o_bias);
  out.head_bias = family.head_bias;
}

/// What multiplies and caps: every one an explicit number of its family's files.
void ReadScales(ConfigReader& config, const Family& family, int32_t head_dim, ModelConfig& out) {
  const auto number = [&](std::string_view key, double fallback) {
    return static_cast<float>(config.Number(key, fallback, 0.0, 1e6));
  };
  double scalar = head_dim;
  if (family.query_scalar) scalar = config.Number("query_pre_attn_scalar", head_dim, 1e-3, 1e6);
  out.attention_scale = family.unit_scale ? 1.0f : 1.0f / std::sqrt(static_cast<float>(scalar));
  if (family.soft_caps) {
    out.attention_soft_cap = number("attn_logit_softcapping", 0.0);
    out.final_soft_cap = number("final_logit_softcapping", 0.0);
  }
  if (family.scaled_embedding) {
    out.embedding_scale = std::sqrt(static_cast<float>(out.hidden_size));
  }
  if (family.multipliers) {
    out.attention_scale = number("attention_multiplier", 1.0);
    out.embedding_scale = number("embedding_multiplier", 1.0);
    out.residual_scale = number("residual_multiplier", 1.0);
    out.logit_scale = 1.0f / static_cast<float>(config.Number("logits_scaling", 1.0, 1e-6, 1e6));
  }
  if (family.logit_scale) out.logit_scale = number("logit_scale", 0.0625);
}

/// Features of a family that this server does not have.
void RefuseUnsupported(ConfigReader& config, const Family& family) {
  if (family.per_layer_heads) {
    if (config.Int("hidden_size_per_layer_input", 0, 0, kMaxSize) > 0)
      config.Fail("hidden_size_per_layer_input", "per-layer embeddings are not supported");
    if (config.Int("num_kv_shared_layers", 0, 0, kMaxLayers) > 0)
      config.Fail("num_kv_shared_layers", "layers that share a cache are not supported");
    if (config.Bool("enable_moe_block", false))
      config.Fail("enable_moe_block", "Gemma 4's mixture of experts is not supported");
  }
  if (family.qk_norm == QkNorm::kNone) {
    for (const std::string_view key : {"use_qk_norm", "qk_layernorm"}) {
      if (config.Bool(key, false)) config.Fail(key, "LayerNorm of each head is not supported");
    }
  }
  if (family.layout == Layout::kFalcon) {  // a wrong type is an error, whatever was made of it
    for (const char* key : {"bias", "multi_query", "parallel_attn", "new_decoder_architecture"})
      config.Bool(key, false);
  }
  if (config.Bool("alibi", false)) config.Fail("alibi", "is not supported");
  if (config.Find("clip_qkv") != nullptr) config.Fail("clip_qkv", "is not supported");
  if (config.Bool("scale_attn_by_inverse_layer_idx", false))
    config.Fail("scale_attn_by_inverse_layer_idx", "is not supported");
}

absl::Status ReadSizes(ConfigReader& config, const Family& family, HeadShape& heads,
                       ModelConfig& out) {
  out.hidden_size = config.Int("hidden_size", std::nullopt, 1, kMaxSize);
  out.intermediate_size = config.Int("intermediate_size", std::nullopt, 1, kMaxSize);
  heads.num_heads = config.Int("num_attention_heads", std::nullopt, 1, kMaxSize);
  heads.num_kv_heads = config.Int("num_key_value_heads", heads.num_heads, 1, kMaxSize);
  heads.head_dim =
      config.Int("head_dim", std::max(1, out.hidden_size / std::max(1, heads.num_heads)), 1, 4096);
  out.vocab_size = config.Int("vocab_size", std::nullopt, 1, kMaxSize);
  out.max_positions = config.Int("max_position_embeddings", 2048, 1, kMaxSize);
  out.norm_eps = static_cast<float>(config.Number("rms_norm_eps", 1e-6, 0.0, 1.0));
  out.tied_embeddings = config.Bool("tie_word_embeddings", family.tied_by_default);
  RETURN_IF_ERROR(config.status());
  if (heads.num_heads % heads.num_kv_heads != 0) {
    config.Fail(
        "num_key_value_heads",
        absl::StrCat(heads.num_kv_heads, " does not divide num_attention_heads ", heads.num_heads));
  }
  if (heads.head_dim % 2 != 0) config.Fail("head_dim", "expected an even number");
  if (int64_t{heads.num_heads} * heads.head_dim > kMaxSize)
    config.Fail("head_dim", "too large for so many heads");
  return config.status();
}

void CopyFlags(ConfigReader& config, const Family& family, ModelConfig& out) {
  out.norm = family.norm;
  out.norm_names = family.norms;
  out.layout = family.layout;
  out.gated_mlp = family.gated_mlp;
  out.position_table = family.position_table;
  out.rope_interleaved = family.rope_interleaved;
  if (family.latent) out.rope_interleaved = config.Bool("rope_interleave", true);
  out.parallel_block = family.parallel_block && config.Bool("use_parallel_residual", true);
  if (family.layout == Layout::kFalcon && config.Int("num_ln_in_parallel_attn", 1, 1, 2) == 2) {
    out.norm_names = {"ln_attn", "", "ln_mlp", ""};
  } else if (out.parallel_block && family.parallel_norm) {
    out.norm_names.mlp_input = "";
  }
  out.qk_norm = family.qk_norm;
  if (family.qk_norm_by_config && !config.Bool("use_qk_norm", false)) out.qk_norm = QkNorm::kNone;
  out.v_norm = family.v_norm;
  out.fused_delta = family.fused_delta;
  out.attention_gate = family.attention_gate;
  out.sinks = family.sinks;
  out.layer_scalar = family.layer_scalar;
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view text, std::string_view what) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(text, what));
  if (!json.is_object())
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(what), ": expected an object"));
  const std::string architecture = FirstArchitecture(json);
  const auto nested = json.find("text_config");
  Json given = json;
  if (nested != json.end() && nested->is_object()) {
    given = *nested;
    for (const char* key : {"dtype", "torch_dtype", "tie_word_embeddings"}) {
      if (!given.contains(key) && json.contains(key)) given[key] = json[key];
    }
  }
  const auto type = given.find("model_type");
  const std::string model_type =
      type != given.end() && type->is_string() ? type->get<std::string>() : "";
  if (IsEncoder(architecture)) {
    ModelConfig out;
    out.architecture = architecture;
    out.model_type = model_type;
    ConfigReader config(given, what);
    RETURN_IF_ERROR(ReadEncoder(config, architecture, out));
    return out;
  }
  const Family* family = FindFamily(architecture, model_type);
  if (family == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat(ToAbsl(what), ": architecture \"", architecture, "\" (model_type \"",
                     model_type, "\") is not known; known are ", KnownArchitectures()));
  }
  ConfigReader::FileNames file_names;
  const Json body = Standardized(std::move(given), *family, file_names);
  ConfigReader config(body, what);
  config.set_file_names(std::move(file_names));
  ModelConfig out;
  out.architecture = family->architecture;
  out.model_type = model_type;
  HeadShape heads;
  RETURN_IF_ERROR(ReadSizes(config, *family, heads, out));
  out.file_dtype = ReadFileDType(config);
  CopyFlags(config, *family, out);
  ReadActivation(config, *family, out);
  ReadBiases(config, *family, out);
  ReadScales(config, *family, heads.head_dim, out);
  RefuseUnsupported(config, *family);
  ReadLayers(config, *family, heads, out);
  RETURN_IF_ERROR(config.status());
  ReadExperts(config, family->experts, out);
  const int32_t rotary_head =
      family->latent ? config.Int("qk_rope_head_dim", 0, 0, 4096) : heads.head_dim;
  RETURN_IF_ERROR(ReadRopes(config, what, *family, rotary_head, out));
  if (family->latent) ReadLatent(config, out);
  RETURN_IF_ERROR(config.status());
  return out;
}

absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& dir) {
  const std::string path = absl::StrCat(dir, "/config.json");
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMaxConfigBytes));
  ASSIGN_OR_RETURN(ModelConfig config, ParseModelConfig(text, path));
  RETURN_IF_ERROR(ReadPooling(dir, config));
  return config;
}

}  // namespace penstock
