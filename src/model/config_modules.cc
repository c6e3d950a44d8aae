#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "format/json_text.h"
#include "model/config_parts.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxModulesBytes = 1 << 20;

absl::StatusOr<Json> ReadObjectOrList(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMaxModulesBytes));
  return ParseJson(text, path);
}

absl::StatusOr<Json> ReadObject(const std::string& path) {
  ASSIGN_OR_RETURN(Json json, ReadObjectOrList(path));
  if (!json.is_object())
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected an object"));
  return json;
}

absl::Status ReadPoolingModule(const std::string& path, ModelConfig& out) {
  ASSIGN_OR_RETURN(const Json json, ReadObject(path));
  struct Mode {
    const char* key;
    Pooling pooling;
  };
  constexpr Mode kModes[] = {{"pooling_mode_cls_token", Pooling::kFirst},
                             {"pooling_mode_mean_tokens", Pooling::kMean},
                             {"pooling_mode_lasttoken", Pooling::kLast}};
  int32_t found = 0;
  for (const auto& [key, value] : json.items()) {
    if (!absl::StartsWith(key, "pooling_mode_") || value != true) continue;
    ++found;
    bool known = false;
    for (const Mode& mode : kModes) {
      if (key != mode.key) continue;
      out.pooling = mode.pooling;
      known = true;
    }
    if (!known) return absl::UnimplementedError(absl::StrCat(path, ": ", key, " is not supported"));
  }
  if (found == 1) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat(path, ": ", found, " pooling modes are set, expected one"));
}

/// A layer over what was pooled.
absl::Status ReadDenseModule(const std::string& path, const std::string& folder, ModelConfig& out) {
  ASSIGN_OR_RETURN(const Json json, ReadObject(path));
  ConfigReader config(json, path);
  DenseConfig dense{.folder = folder};
  const int32_t before = out.dense.empty() ? out.hidden_size : out.dense.back().out_size;
  dense.in_size = config.Int("in_features", std::nullopt, 1, kMaxSize);
  dense.out_size = config.Int("out_features", std::nullopt, 1, kMaxSize);
  dense.bias = config.Bool("bias", true);
  if (dense.in_size != before) {
    config.Fail("in_features",
                absl::StrCat("is ", dense.in_size, ", expected ", before, ", what comes before"));
  }
  const std::string activation = config.String("activation_function", "Tanh");
  dense.tanh = absl::EndsWith(activation, "Tanh");
  if (!dense.tanh && !absl::EndsWith(activation, "Identity"))
    config.Fail("activation_function", "expected Tanh or Identity of torch.nn.modules");
  for (const char* key : {"module_input_name", "module_output_name"}) {
    if (config.String(key, "sentence_embedding") != "sentence_embedding")
      config.Fail(key, "expected sentence_embedding");
  }
  out.dense.push_back(std::move(dense));
  return config.status();
}

/// How long an input may be, where the model was made for shorter ones than it has positions, and
/// whether it was made for texts in lower case.
absl::Status ReadInput(const std::string& dir, ModelConfig& out) {
  for (const char* name : {"sentence_bert_config.json", "sentence_roberta_config.json",
                           "sentence_xlm-roberta_config.json", "sentence_distilbert_config.json"}) {
    const std::string path = absl::StrCat(dir, "/", name);
    if (!std::filesystem::exists(path)) continue;
    ASSIGN_OR_RETURN(const Json json, ReadObject(path));
    ConfigReader config(json, path);
    out.max_input = config.Int("max_seq_length", 0, 0, kMaxSize);
    out.lowercase = config.Bool("do_lower_case", false);
    return config.status();
  }
  return absl::OkStatus();
}

absl::Status ReadModule(const std::string& dir, const std::string& type, const std::string& folder,
                        ModelConfig& out) {
  const std::string own = folder.empty() ? dir : absl::StrCat(dir, "/", folder);
  if (absl::EndsWith(type, ".Pooling")) return ReadPoolingModule(own + "/config.json", out);
  if (absl::EndsWith(type, ".Transformer")) return ReadInput(own, out);
  if (absl::EndsWith(type, ".Dense") && !out.normalize)
    return ReadDenseModule(own + "/config.json", folder, out);
  if (!absl::EndsWith(type, ".Normalize")) {
    return absl::UnimplementedError(
        absl::StrCat(dir, "/modules.json: module \"", type, "\" is not supported",
                     out.normalize ? " behind one that normalizes" : ""));
  }
  out.normalize = true;
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadPooling(const std::string& dir, ModelConfig& out) {
  const std::string path = dir + "/modules.json";
  if (!std::filesystem::exists(path)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Json modules, ReadObjectOrList(path));
  if (!modules.is_array())
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected a list of modules"));
  out.normalize = false;
  for (const Json& module : modules) {
    const auto text = [&](const char* key) {
      const auto it = module.is_object() ? module.find(key) : module.end();
      return it != module.end() && it->is_string() ? it->get<std::string>() : std::string();
    };
    const std::string folder = text("path");
    if (folder.find("..") != std::string::npos || absl::StartsWith(folder, "/"))
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": path \"", folder, "\" leaves the model"));
    RETURN_IF_ERROR(ReadModule(dir, text("type"), folder, out));
  }
  return absl::OkStatus();
}

}  // namespace penstock
