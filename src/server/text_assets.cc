#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "server/model_instance.h"
#include "text/tokenizer_loader.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::optional<std::string> ReadFile(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

/// An object; an empty one where the file is absent.
absl::StatusOr<Json> ReadJson(const fs::path& path) {
  const std::optional<std::string> text = ReadFile(path);
  if (!text) return Json::object();
  Json json = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object())
    return absl::InvalidArgumentError(absl::StrCat(path.string(), ": expected a JSON object"));
  return json;
}

absl::Status WrongType(const fs::path& path, std::string_view key, std::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat(path.string(), ": ", ToAbsl(key), ": expected ", ToAbsl(expected)));
}

template <class T>
absl::Status ReadNumber(const Json& json, const fs::path& path, const char* key,
                        std::optional<T>& out) {
  const auto it = json.find(key);
  if (it == json.end() || it->is_null()) return absl::OkStatus();
  if (!it->is_number()) return WrongType(path, key, "a number");
  out = it->get<T>();
  return absl::OkStatus();
}

/// A token id or a list of them.
absl::Status ReadIds(const Json& json, const fs::path& path, std::vector<TokenId>& out) {
  const auto it = json.find("eos_token_id");
  if (it == json.end() || it->is_null()) return absl::OkStatus();
  for (const Json& id : it->is_array() ? *it : Json::array({*it})) {
    if (!id.is_number_integer())
      return WrongType(path, "eos_token_id", "an integer or a list of integers");
    out.push_back(id.get<TokenId>());
  }
  return absl::OkStatus();
}

/// A token as text: a string, or an object with "content".
std::string TokenText(const Json& json, const char* key) {
  const auto it = json.find(key);
  if (it == json.end()) return "";
  if (it->is_string()) return it->get<std::string>();
  return it->is_object() ? it->value("content", "") : "";
}

/// The template's source: chat_template.jinja, else the config's string, or of a list the one named
/// "default".
std::string TemplateSource(const fs::path& dir, const Json& tokenizer_config) {
  if (std::optional<std::string> file = ReadFile(dir / "chat_template.jinja")) return *file;
  const auto it = tokenizer_config.find("chat_template");
  if (it == tokenizer_config.end()) return "";
  if (it->is_string()) return it->get<std::string>();
  if (!it->is_array()) return "";
  for (const Json& entry : *it) {
    if (entry.is_object() && entry.value("name", "") == "default")
      return entry.value("template", "");
  }
  return "";
}

absl::Status ReadGeneration(const fs::path& dir, GenerationDefaults& out) {
  const fs::path path = dir / "generation_config.json";
  ASSIGN_OR_RETURN(const Json json, ReadJson(path));
  RETURN_IF_ERROR(ReadNumber(json, path, "temperature", out.temperature));
  RETURN_IF_ERROR(ReadNumber(json, path, "top_p", out.top_p));
  RETURN_IF_ERROR(ReadNumber(json, path, "min_p", out.min_p));
  RETURN_IF_ERROR(ReadNumber(json, path, "top_k", out.top_k));
  RETURN_IF_ERROR(ReadNumber(json, path, "repetition_penalty", out.repetition_penalty));
  RETURN_IF_ERROR(ReadNumber(json, path, "max_new_tokens", out.max_tokens));
  RETURN_IF_ERROR(ReadIds(json, path, out.eos_token_ids));
  if (!out.eos_token_ids.empty()) return absl::OkStatus();
  const fs::path config_path = dir / "config.json";
  ASSIGN_OR_RETURN(const Json config, ReadJson(config_path));
  RETURN_IF_ERROR(ReadIds(config, config_path, out.eos_token_ids));
  if (out.eos_token_ids.empty() && config.contains("text_config") &&
      config["text_config"].is_object()) {
    return ReadIds(config["text_config"], config_path, out.eos_token_ids);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TextAssets> LoadTextAssets(const std::string& dir) {
  TextAssets assets;
  RETURN_IF_ERROR(ReadGeneration(dir, assets.defaults));
  const fs::path tokenizer_path = fs::path(dir) / "tokenizer.json";
  if (fs::exists(tokenizer_path)) {
    ASSIGN_OR_RETURN(assets.tokenizer, LoadTokenizer(tokenizer_path.string()));
  }
  ASSIGN_OR_RETURN(const Json config, ReadJson(fs::path(dir) / "tokenizer_config.json"));
  assets.bos_token = TokenText(config, "bos_token");
  assets.eos_token = TokenText(config, "eos_token");
  if (assets.tokenizer != nullptr && assets.defaults.eos_token_ids.empty()) {
    if (const auto id = assets.tokenizer->TokenToId(assets.eos_token))
      assets.defaults.eos_token_ids.push_back(*id);
  }
  if (const std::string source = TemplateSource(dir, config); !source.empty()) {
    absl::StatusOr<ChatTemplate> parsed = ChatTemplate::Parse(source);
    if (!parsed.ok()) return Annotate(parsed.status(), dir + ": chat template");
    assets.chat_template = std::make_unique<ChatTemplate>(*std::move(parsed));
  }
  return assets;
}

}  // namespace penstock
