#include "model/model_config.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "format/json_text.h"
#include "model/config_reader.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxConfigBytes = 4 << 20;
constexpr int32_t kMaxSize = 1 << 24;
constexpr int32_t kMaxLayers = 4096;

/// Where a family says which layers have a window.
enum class Windows : uint8_t {
  kNone,
  kAll,   // sliding_window, where it is set, is every layer's
  kQwen,  // use_sliding_window: layer_types, or the layers from max_window_layers on
};

/// Where a family's attention biases come from.
enum class Biases : uint8_t { kNever, kQkv, kByConfig };

/// A family: what its network is beyond what config.json spells out.
struct Family {
  std::string_view architecture;
  std::string_view model_type;
  Biases attention_bias;  // kByConfig: attention_bias is of q, k, v and o
  bool mlp_bias_by_config;
  bool qk_norm;
  bool tied_by_default;
  Windows windows;
};

// clang-format off
constexpr Family kFamilies[] = {
    // architecture         model_type  attention_bias    mlp_bias qk_norm tied   windows
    {"LlamaForCausalLM",   "llama",    Biases::kByConfig, true,    false,  false, Windows::kNone},
    {"MistralForCausalLM", "mistral",  Biases::kNever,    false,   false,  false, Windows::kAll},
    {"Qwen2ForCausalLM",   "qwen2",    Biases::kQkv,      false,   false,  false, Windows::kQwen},
    {"Qwen3ForCausalLM",   "qwen3",    Biases::kByConfig, false,   true,   false, Windows::kQwen},
};
// clang-format on

const Family* FindFamily(std::string_view architecture, std::string_view model_type) {
  for (const Family& family : kFamilies) {
    if (architecture.empty() ? family.model_type == model_type
                             : family.architecture == architecture) {
      return &family;
    }
  }
  return nullptr;
}

struct RopeName {
  std::string_view name;
  RopeType type;
};
constexpr RopeName kRopeNames[] = {{"default", RopeType::kDefault},
                                   {"linear", RopeType::kLinear},
                                   {"dynamic", RopeType::kDynamic},
                                   {"llama3", RopeType::kLlama3},
                                   {"yarn", RopeType::kYarn}};

void ReadRopeType(std::string_view name, RopeConfig& rope, ConfigReader& errors) {
  std::string known;
  for (const RopeName& entry : kRopeNames) {
    if (entry.name == name) {
      rope.type = entry.type;
      return;
    }
    absl::StrAppend(&known, known.empty() ? "" : ", ", ToAbsl(entry.name));
  }
  errors.Fail("rope_type", absl::StrCat("\"", ToAbsl(name), "\" is not known; known are ", known));
}

/// rope_parameters {rope_type, rope_theta, ...}, or rope_theta beside rope_scaling {rope_type or
/// type, ...}.
absl::Status ReadRope(ConfigReader& config, std::string_view what, ModelConfig& out) {
  RopeConfig& rope = out.rope;
  rope.theta = config.Number("rope_theta", 10000.0, 1.0, 1e12);
  rope.original_max_positions =
      config.Int("original_max_position_embeddings", out.max_positions, 1, kMaxSize);
  const Json* json = config.Find("rope_parameters");
  if (json == nullptr) json = config.Find("rope_scaling");
  if (json == nullptr) return config.status();
  if (!json->is_object()) {
    config.Fail("rope_parameters", "expected an object");
    return config.status();
  }
  ConfigReader reader(*json, what);
  std::string type = reader.String("rope_type", "");
  if (type.empty()) type = reader.String("type", "default");
  ReadRopeType(type, rope, reader);
  rope.theta = reader.Number("rope_theta", rope.theta, 1.0, 1e12);
  rope.factor = reader.Number("factor", 1.0, 1e-6, 1e6);
  rope.original_max_positions =
      reader.Int("original_max_position_embeddings", rope.original_max_positions, 1, kMaxSize);
  rope.low_freq_factor = reader.Number("low_freq_factor", 1.0, 1e-6, 1e6);
  rope.high_freq_factor = reader.Number("high_freq_factor", 4.0, 1e-6, 1e6);
  rope.beta_fast = reader.Number("beta_fast", 32.0, 1e-6, 1e6);
  rope.beta_slow = reader.Number("beta_slow", 1.0, 1e-6, 1e6);
  rope.attention_factor = reader.Number("attention_factor", 0.0, 0.0, 1e6);
  rope.mscale = reader.Number("mscale", 0.0, 0.0, 1e6);
  rope.mscale_all_dim = reader.Number("mscale_all_dim", 0.0, 0.0, 1e6);
  rope.truncate = reader.Bool("truncate", true);
  if (rope.type == RopeType::kLlama3 && rope.high_freq_factor <= rope.low_freq_factor) {
    reader.Fail("high_freq_factor", "expected more than low_freq_factor");
  }
  RETURN_IF_ERROR(reader.status());
  return config.status();
}

void ReadLayers(ConfigReader& config, Windows windows, ModelConfig& out) {
  out.layers.resize(config.Int("num_hidden_layers", std::nullopt, 1, kMaxLayers));
  if (windows == Windows::kNone) return;
  if (windows == Windows::kQwen && !config.Bool("use_sliding_window", false)) return;
  const int32_t window = config.Int("sliding_window", 0, 0, kMaxSize);
  const auto num_layers = static_cast<int32_t>(out.layers.size());
  const Json* types = windows == Windows::kQwen ? config.Find("layer_types") : nullptr;
  if (types != nullptr) {
    if (!types->is_array() || types->size() != out.layers.size()) {
      config.Fail("layer_types",
                  absl::StrCat("expected one entry for each of ", num_layers, " layers"));
      return;
    }
    for (int32_t i = 0; i < num_layers; ++i) {
      const Json& type = (*types)[i];
      if (type == "sliding_attention") {
        out.layers[i].window = window;
      } else if (type != "full_attention") {
        config.Fail("layer_types", "expected full_attention or sliding_attention in every entry");
      }
    }
    return;
  }
  const int32_t first =
      windows == Windows::kQwen ? config.Int("max_window_layers", 0, 0, kMaxLayers) : 0;
  for (int32_t i = first; i < num_layers; ++i) out.layers[i].window = window;
}

void ReadActivation(ConfigReader& config, ModelConfig& out) {
  const std::string name = config.String("hidden_act", "silu");
  if (name == "silu" || name == "swish") {
    out.activation = Activation::kSilu;
  } else if (name == "gelu") {
    out.activation = Activation::kGelu;
  } else if (name == "gelu_pytorch_tanh" || name == "gelu_new") {
    out.activation = Activation::kGeluTanh;
  } else if (name == "relu") {
    out.activation = Activation::kRelu;
  } else {
    config.Fail("hidden_act",
                absl::StrCat("\"", name, "\" is not one of silu, gelu, gelu_pytorch_tanh, relu"));
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

absl::Status ReadSizes(ConfigReader& config, const Family& family, ModelConfig& out) {
  out.hidden_size = config.Int("hidden_size", std::nullopt, 1, kMaxSize);
  out.intermediate_size = config.Int("intermediate_size", std::nullopt, 1, kMaxSize);
  out.num_heads = config.Int("num_attention_heads", std::nullopt, 1, kMaxSize);
  out.num_kv_heads = config.Int("num_key_value_heads", out.num_heads, 1, kMaxSize);
  out.head_dim =
      config.Int("head_dim", std::max(1, out.hidden_size / std::max(1, out.num_heads)), 1, 4096);
  out.vocab_size = config.Int("vocab_size", std::nullopt, 1, kMaxSize);
  out.max_positions = config.Int("max_position_embeddings", 2048, 1, kMaxSize);
  out.norm_eps = static_cast<float>(config.Number("rms_norm_eps", 1e-6, 0.0, 1.0));
  out.tied_embeddings = config.Bool("tie_word_embeddings", family.tied_by_default);
  const bool attention_bias = config.Bool("attention_bias", false);
  out.qkv_bias = family.attention_bias == Biases::kQkv ||
                 (family.attention_bias == Biases::kByConfig && attention_bias);
  out.o_bias = family.attention_bias == Biases::kByConfig && attention_bias;
  out.mlp_bias = family.mlp_bias_by_config && config.Bool("mlp_bias", false);
  out.qk_norm = family.qk_norm;
  RETURN_IF_ERROR(config.status());
  if (out.num_heads % out.num_kv_heads != 0) {
    config.Fail(
        "num_key_value_heads",
        absl::StrCat(out.num_kv_heads, " does not divide num_attention_heads ", out.num_heads));
  }
  if (out.head_dim % 2 != 0) config.Fail("head_dim", "expected an even number");
  if (int64_t{out.num_heads} * out.head_dim > kMaxSize)
    config.Fail("head_dim", "too large for so many heads");
  out.attention_scale = 1.0f / std::sqrt(static_cast<float>(out.head_dim));
  return config.status();
}

}  // namespace

std::string KnownArchitectures() {
  std::string names;
  for (const Family& family : kFamilies) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", ToAbsl(family.architecture));
  }
  return names;
}

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view text, std::string_view what) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(text, what));
  if (!json.is_object())
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(what), ": expected an object"));
  ModelConfig out;
  out.architecture = FirstArchitecture(json);
  const auto nested = json.find("text_config");
  const Json& body = nested != json.end() && nested->is_object() ? *nested : json;
  ConfigReader config(body, what);
  out.model_type = config.String("model_type", "");
  const Family* family = FindFamily(out.architecture, out.model_type);
  if (family == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat(ToAbsl(what), ": architecture \"", out.architecture, "\" (model_type \"",
                     out.model_type, "\") is not known; known are ", KnownArchitectures()));
  }
  out.architecture = family->architecture;
  RETURN_IF_ERROR(ReadSizes(config, *family, out));
  ReadActivation(config, out);
  ReadLayers(config, family->windows, out);
  out.file_dtype = ReadFileDType(config);
  RETURN_IF_ERROR(ReadRope(config, what, out));
  return out;
}

absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& dir) {
  const std::string path = absl::StrCat(dir, "/config.json");
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMaxConfigBytes));
  return ParseModelConfig(text, path);
}

}  // namespace penstock
