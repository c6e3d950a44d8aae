#include "model/adapter_config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "format/json_text.h"
#include "model/config_reader.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxNames = 4096;  // of one list or pattern table
constexpr size_t kMaxNameBytes = 1024;
constexpr double kMaxAlpha = 1e6;

/// Keys that change what an adapter computes; set to anything but null, false, 0 or nothing they
/// are refused.
constexpr std::string_view kUnsupported[] = {
    "use_dora",          "lora_bias",         "modules_to_save",         "trainable_token_indices",
    "layer_replication", "target_parameters", "alora_invocation_tokens", "megatron_config",
    "arrow_config",      "velora_config",     "monteclora_config",       "kasa_config",
};

/// Ways to begin training that leave the model as it was; the others (pissa, olora, corda, loftq)
/// change its weights, and the adapter fits nothing but those.
constexpr std::string_view kPlainStarts[] = {"gaussian", "eva", "orthogonal"};

bool IsSet(const Json& value) {
  if (value.is_null()) return false;
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>() != 0;
  return !value.empty();
}

absl::StatusOr<Regex> CompileWhole(std::string_view before, const std::string& expression) {
  if (expression.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(absl::StrCat("an expression of ", expression.size(),
                                                   " bytes, expected at most ", kMaxNameBytes));
  }
  return Regex::Compile(absl::StrCat("\\A", ToAbsl(before), "(?:", expression, ")\\z"));
}

bool Matches(const Regex& expression, std::string_view text) {
  Regex::Match match;
  return expression.Find(text, 0, &match);
}

}  // namespace

class AdapterConfig::Reader {
 public:
  Reader(const Json& json, std::string_view what) : json_(json), what_(what), reader_(json, what) {}

  absl::StatusOr<AdapterConfig> Read() {
    RETURN_IF_ERROR(Refuse());
    AdapterConfig out;
    out.rank_ = reader_.Int("r", std::nullopt, 1, kMaxAdapterRank);
    out.alpha_ = reader_.Number("lora_alpha", std::nullopt, -kMaxAlpha, kMaxAlpha);
    out.rank_stabilized_ = reader_.Bool("use_rslora", false);
    out.ties_weights_ = reader_.Bool("ensure_weight_tying", false);
    ReadModules("target_modules", out.targets_);
    ReadModules("exclude_modules", out.excluded_);
    if (reader_.Find("target_modules") == nullptr) reader_.Fail("target_modules", "is missing");
    ReadLayers(out.layers_);
    ReadPatterns("rank_pattern", "a whole number from 1 to 256", out.ranks_,
                 [](double v) { return v >= 1 && v <= kMaxAdapterRank && v == std::floor(v); });
    ReadPatterns("alpha_pattern", "a number", out.alphas_,
                 [](double v) { return std::abs(v) <= kMaxAlpha; });
    RETURN_IF_ERROR(reader_.status());
    return out;
  }

 private:
  absl::Status Unsupported(std::string_view key, std::string_view value) const {
    return absl::UnimplementedError(absl::StrCat(what_, ": ", ToAbsl(key), " ", ToAbsl(value),
                                                 value.empty() ? "" : " ", "is not supported"));
  }

  absl::Status Refuse() {
    const std::string type = reader_.String("peft_type", "");
    const std::string bias = reader_.String("bias", "none");
    RETURN_IF_ERROR(reader_.status());
    if (type != "LORA")
      return Unsupported("peft_type", absl::StrCat("\"", type, "\" (expected LORA)"));
    if (bias != "none") return Unsupported("bias", absl::StrCat("\"", bias, "\""));
    for (const std::string_view key : kUnsupported) {
      if (const Json* value = reader_.Find(key); value != nullptr && IsSet(*value))
        return Unsupported(key, "");
    }
    // A switch of a later PEFT changes the arithmetic in a way that nobody here knows.
    for (const auto& [key, value] : json_.items()) {
      if (key.starts_with("use_") && key != "use_rslora" && IsSet(value))
        return Unsupported(key, "");
    }
    const Json* start = reader_.Find("init_lora_weights");
    if (start == nullptr || start->is_boolean()) return absl::OkStatus();
    const std::string name = start->is_string() ? start->get<std::string>() : start->dump();
    if (std::find(std::begin(kPlainStarts), std::end(kPlainStarts), name) == std::end(kPlainStarts))
      return Unsupported("init_lora_weights", absl::StrCat("\"", name, "\""));
    return absl::OkStatus();
  }

  void ReadModules(std::string_view key, Modules& out) {
    const Json* value = reader_.Find(key);
    if (value == nullptr) return;
    if (value->is_string()) {
      const auto text = value->get<std::string>();
      if (text == "all-linear") {
        out.all = true;
        return;
      }
      absl::StatusOr<Regex> expression = CompileWhole("", text);
      if (!expression.ok()) return reader_.Fail(key, Message(expression.status()));
      out.expressions.push_back(*std::move(expression));
      return;
    }
    if (!value->is_array() || value->size() > kMaxNames)
      return reader_.Fail(key, "expected a list of names, or an expression");
    for (const Json& name : *value) {
      if (!name.is_string()) return reader_.Fail(key, "expected names");
      out.names.push_back(name.get<std::string>());
    }
  }

  void ReadLayers(std::vector<int32_t>& out) {
    constexpr std::string_view kKey = "layers_to_transform";
    const Json* value = reader_.Find(kKey);
    if (value == nullptr) return;
    const Json list = value->is_array() ? *value : Json::array({*value});
    for (const Json& layer : list) {
      const bool is_index = layer.is_number_integer() && layer.get<double>() >= 0 &&
                            layer.get<double>() <= std::numeric_limits<int32_t>::max();
      if (!is_index) return reader_.Fail(kKey, "expected indices of layers");
      out.push_back(layer.get<int32_t>());
    }
  }

  template <class T, class Valid>
  void ReadPatterns(std::string_view key, std::string_view expected, Patterns<T>& out,
                    const Valid& valid) {
    const Json* value = reader_.Find(key);
    if (value == nullptr) return;
    if (!value->is_object() || value->size() > kMaxNames)
      return reader_.Fail(key, "expected an object of patterns");
    for (const auto& [pattern, number] : value->items()) {
      if (!number.is_number() || !valid(number.template get<double>()))
        return reader_.Fail(key, absl::StrCat("\"", pattern, "\": expected ", ToAbsl(expected)));
      absl::StatusOr<Regex> expression = CompileWhole("(?:.*\\.)?", pattern);
      if (!expression.ok()) return reader_.Fail(key, Message(expression.status()));
      out.emplace_back(*std::move(expression), static_cast<T>(number.template get<double>()));
    }
  }

  const Json& json_;
  const std::string what_;
  ConfigReader reader_;
};

absl::StatusOr<AdapterConfig> AdapterConfig::Parse(std::string_view json, std::string_view what) {
  ASSIGN_OR_RETURN(const Json parsed, ParseJson(json, what));
  if (!parsed.is_object())
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(what), ": expected an object"));
  return Reader(parsed, what).Read();
}

bool AdapterConfig::Modules::Has(std::string_view module) const {
  if (all) return true;
  for (const std::string& name : names) {
    if (!module.ends_with(name)) continue;
    const size_t begin = module.size() - name.size();
    if (begin == 0 || module[begin - 1] == '.') return true;
  }
  return std::any_of(expressions.begin(), expressions.end(),
                     [&](const Regex& expression) { return Matches(expression, module); });
}

bool AdapterConfig::Targets(std::string_view module, int32_t layer) const {
  if (layer < 0 && targets_.all) return false;
  if (excluded_.Has(module) || !targets_.Has(module)) return false;
  return layers_.empty() || std::find(layers_.begin(), layers_.end(), layer) != layers_.end();
}

template <class T>
T AdapterConfig::Pick(const Patterns<T>& patterns, std::string_view module, T otherwise) {
  for (const auto& [expression, value] : patterns) {
    if (Matches(expression, module)) return value;
  }
  return otherwise;
}

int32_t AdapterConfig::RankOf(std::string_view module) const { return Pick(ranks_, module, rank_); }

float AdapterConfig::ScalingOf(std::string_view module) const {
  const double rank = RankOf(module);
  const double alpha = Pick(alphas_, module, alpha_);
  return static_cast<float>(alpha / (rank_stabilized_ ? std::sqrt(rank) : rank));
}

}  // namespace penstock
