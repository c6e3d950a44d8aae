#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "model/config_parts.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

struct RopeName {
  std::string_view name;
  RopeType type;
};
constexpr RopeName kRopeNames[] = {
    {"default", RopeType::kDefault}, {"linear", RopeType::kLinear},
    {"dynamic", RopeType::kDynamic}, {"llama3", RopeType::kLlama3},
    {"yarn", RopeType::kYarn},       {"longrope", RopeType::kLongRope},
    {"su", RopeType::kLongRope},     {"proportional", RopeType::kProportional},
    {"mrope", RopeType::kDefault},  // of text alone: every section counts the same positions
};

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

/// One positive number for each pair of dimensions.
std::vector<double> ReadFactors(ConfigReader& reader, std::string_view key, int32_t pairs) {
  const Json* list = reader.Find(key);
  std::vector<double> factors;
  if (list != nullptr && list->is_array() && list->size() == static_cast<size_t>(pairs)) {
    for (const Json& value : *list) {
      if (value.is_number() && value.get<double>() > 0) factors.push_back(value.get<double>());
    }
  }
  if (factors.size() != static_cast<size_t>(pairs)) {
    reader.Fail(key, absl::StrCat("expected ", pairs, " positive numbers"));
  }
  return factors;
}

/// An object of rope parameters over what `rope` holds already.
void ReadParameters(ConfigReader& reader, int32_t head_dim, double partial, RopeConfig& rope,
                    ModelConfig& out) {
  std::string type = reader.String("rope_type", "");
  if (type.empty()) type = reader.String("type", "default");
  ReadRopeType(type, rope, reader);
  rope.theta = reader.Number("rope_theta", rope.theta, 1.0, 1e12);
  rope.factor = reader.Number("factor", rope.factor, 1e-6, 1e6);
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
  partial = reader.Number("partial_rotary_factor", partial, 0.0, 1.0);
  rope.rotary_dim = static_cast<int32_t>(head_dim * partial) / 2 * 2;
  out.query_scale_beta =
      static_cast<float>(reader.Number("llama_4_scaling_beta", out.query_scale_beta, 0.0, 1e3));
  if (rope.type == RopeType::kLlama3 && rope.high_freq_factor <= rope.low_freq_factor) {
    reader.Fail("high_freq_factor", "expected more than low_freq_factor");
  }
  if (rope.type == RopeType::kLongRope) {
    rope.short_factors = ReadFactors(reader, "short_factor", rope.rotary_dim / 2);
    rope.long_factors = ReadFactors(reader, "long_factor", rope.rotary_dim / 2);
    if (reader.Find("factor") == nullptr) {
      rope.factor = static_cast<double>(out.max_positions) / rope.original_max_positions;
    }
  }
  if (rope.type == RopeType::kProportional) {
    rope.rotated_pairs = static_cast<int32_t>(partial * head_dim) / 2;
    rope.rotary_dim = head_dim;
  }
}

absl::Status ReadRope(const Json& json, std::string_view what, int32_t head_dim, double partial,
                      RopeConfig& rope, ModelConfig& out) {
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(what), ": rope_parameters: expected an object"));
  }
  ConfigReader reader(json, what);
  ReadParameters(reader, head_dim, partial, rope, out);
  return reader.status();
}

int32_t HeadDim(const ModelConfig& out, int32_t rope, int32_t fallback) {
  for (const LayerConfig& layer : out.layers) {
    if (layer.rope == rope) return layer.heads.head_dim;
  }
  return fallback;
}

}  // namespace

/// rope_parameters {rope_type, rope_theta, ...}, the same for each of full_attention and
/// sliding_attention, or rope_theta beside rope_scaling {rope_type or type, ...}.
absl::Status ReadRopes(ConfigReader& config, std::string_view what, const Family& family,
                       int32_t head_dim, ModelConfig& out) {
  RopeConfig base;
  base.theta = config.Number("rope_theta", 10000.0, 1.0, 1e12);
  base.theta = config.Number("rotary_emb_base", base.theta, 1.0, 1e12);
  base.original_max_positions =
      config.Int("original_max_position_embeddings", out.max_positions, 1, kMaxSize);
  double partial = config.Number("partial_rotary_factor", family.partial_rotary, 0.0, 1.0);
  partial = config.Number("rotary_pct", partial, 0.0, 1.0);
  if (config.Find("rotary_dim") != nullptr)
    partial = std::min(1.0, (config.Int("rotary_dim", 0, 2, 4096) + 0.5) / head_dim);
  // Of latent attention a part of the head turns, whatever head_dim is or would be.
  const int32_t full_dim = family.latent ? head_dim : HeadDim(out, 0, head_dim);
  const int32_t local_dim = HeadDim(out, 1, head_dim);
  base.rotary_dim = static_cast<int32_t>(full_dim * partial) / 2 * 2;
  out.ropes.assign(family.local_rope ? 2 : 1, base);
  if (family.local_rope) {
    out.ropes[1].rotary_dim = static_cast<int32_t>(local_dim * partial) / 2 * 2;
    out.ropes[1].theta = config.Number("rope_local_base_freq", out.ropes[1].theta, 1.0, 1e12);
  }
  RETURN_IF_ERROR(config.status());
  const Json* json = config.Find("rope_parameters");
  if (json != nullptr && json->is_object() && json->contains("full_attention")) {
    RETURN_IF_ERROR(
        ReadRope((*json)["full_attention"], what, full_dim, partial, out.ropes[0], out));
    if (family.local_rope && json->contains("sliding_attention")) {
      return ReadRope((*json)["sliding_attention"], what, local_dim, partial, out.ropes[1], out);
    }
    return absl::OkStatus();
  }
  if (json == nullptr) json = config.Find("rope_scaling");
  if (json == nullptr) return absl::OkStatus();
  return ReadRope(*json, what, full_dim, partial, out.ropes[0], out);
}

}  // namespace penstock
