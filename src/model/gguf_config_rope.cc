#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/strings.h"
#include "format/gguf.h"
#include "model/gguf_config_parts.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxRopePairs = 4096;
constexpr double kStandsStill = 1e29;  // factors from here on leave a pair as it is

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

/// YaRN's magnitude, by whichever key the architecture says it.
void PutYarn(GgufKeys& keys, const GgufArchitecture& arch, double factor,
             std::optional<double> magnitude, Json& scaling) {
  scaling.update({{"rope_type", "yarn"}, {"factor", factor}});
  scaling["beta_fast"] = keys.Float("rope.scaling.yarn_beta_fast").value_or(32.0);
  scaling["beta_slow"] = keys.Float("rope.scaling.yarn_beta_slow").value_or(1.0);
  if (arch.experts == GgufExperts::kGptOss) scaling["truncate"] = false;
  const bool temperature = arch.name == "mistral3";
  if (arch.latent || temperature) {
    // The file has mscale_all_dim alone, of deepseek2 a tenth of it; mscale there is the same.
    const double unit = arch.latent ? 0.1 : 1.0;
    const double all = keys.Float("rope.scaling.yarn_log_multiplier").value_or(0.0) / unit;
    if (all > 0) {
      scaling["mscale_all_dim"] = all;
      scaling["mscale"] = arch.latent ? all : 1.0;
    }
  }
  if (temperature) {
    const double beta = keys.Float("attention.temperature_scale").value_or(0.0);
    if (beta > 0) scaling["llama_4_scaling_beta"] = beta;
  }
  const double own = magnitude.value_or(keys.Float("rope.scaling.yarn_attn_factor").value_or(1.0));
  if (own != 1.0 && factor > 1) scaling["attention_factor"] = own * (1.0 + 0.1 * std::log(factor));
}

/// Gemma 4: layers without a window turn their first pairs alone; the factors of the others are
/// huge.
void PutProportional(GgufKeys& keys, Json& out) {
  const std::vector<double> factors = FactorsOf(keys, "rope_freqs.weight");
  size_t turned = 0;
  while (turned < factors.size() && factors[turned] == 1.0) ++turned;
  const bool rest_stands = std::all_of(factors.begin() + static_cast<int64_t>(turned),
                                       factors.end(), [](double f) { return f > kStandsStill; });
  const int64_t full = keys.RequiredInt("attention.key_length");
  if (!rest_stands || turned == 0 || static_cast<int64_t>(factors.size()) * 2 != full) {
    return keys.Keep(absl::InvalidArgumentError(absl::StrCat(
        keys.file().paths().front(), ": tensor \"rope_freqs.weight\": expected ", full / 2,
        " factors, 1 for the pairs that turn and 1e30 for those behind them")));
  }
  const double share = (2.0 * static_cast<double>(turned) + 0.5) / static_cast<double>(full);
  const int64_t own = out["head_dim"].get<int64_t>();
  if (keys.Int("rope.dimension_count_swa").value_or(own) != own)
    keys.Fail("rope.dimension_count_swa", absl::StrCat("expected ", own));
  out["rope_parameters"] = {
      {"full_attention",
       {{"rope_type", "proportional"},
        {"partial_rotary_factor", std::min(share, 1.0)},
        {"rope_theta", keys.Float("rope.freq_base").value_or(1e6)}}},
      {"sliding_attention",
       {{"rope_type", "default"}, {"rope_theta", keys.Float("rope.freq_base_swa").value_or(1e4)}}}};
}

}  // namespace

void PutGgufRope(GgufKeys& keys, const GgufArchitecture& arch, Json& out) {
  if (arch.per_layer_heads) return PutProportional(keys, out);
  out["rope_theta"] = keys.Float("rope.freq_base").value_or(10000.0);
  if (arch.name == "gemma3" || arch.model_type == "olmo3") {
    const double usual = arch.name == "gemma3" ? 10000.0 : out["rope_theta"].get<double>();
    out["rope_local_base_freq"] = keys.Float("rope.freq_base_swa").value_or(usual);
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
    PutYarn(keys, arch, factor, magnitude, scaling);
  } else if (type == "none") {
    return;
  } else {
    return keys.Fail("rope.scaling.type",
                     absl::StrCat("\"", absl::CEscape(ToAbsl(type.substr(0, 64))),
                                  "\" is not known; known are none, linear, yarn, longrope"));
  }
  out["rope_scaling"] = std::move(scaling);
}

}  // namespace penstock
