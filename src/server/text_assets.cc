#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "server/model_instance.h"
#include "text/tokenizer_loader.h"
#include "text/vocabulary_directory.h"

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
  if (!it->is_object()) return "";
  const auto content = it->find("content");
  return content != it->end() && content->is_string() ? content->get<std::string>() : "";
}

/// tokenizer.json, else a SentencePiece model, else a tiktoken file; empty where there is none.
fs::path TokenizerFile(const fs::path& dir) {
  for (const char* name : {"tokenizer.json", "tokenizer.model", "tiktoken.model", "spiece.model",
                           "sentencepiece.bpe.model"}) {
    if (fs::exists(dir / name)) return dir / name;
  }
  fs::path found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(dir, error)) {
    const bool is_first = found.empty() || entry.path() < found;
    if (entry.path().extension() == ".tiktoken" && is_first) found = entry.path();
  }
  return found;
}

absl::Status ReadFlag(const Json& json, const fs::path& path, const char* key,
                      std::optional<bool>& out) {
  const auto it = json.find(key);
  if (it == json.end() || it->is_null()) return absl::OkStatus();
  if (!it->is_boolean()) return WrongType(path, key, "true or false");
  out = it->get<bool>();
  return absl::OkStatus();
}

constexpr TokenId kMaxAddedId = 1 << 24;

/// {"32000": {"content": "<|im_start|>", "special": true, ...}, ...}
absl::Status ReadAddedTokens(const Json& json, const fs::path& path, std::vector<AddedToken>& out) {
  const auto it = json.find("added_tokens_decoder");
  if (it == json.end() || !it->is_object()) return absl::OkStatus();
  for (const auto& item : it->items()) {
    const std::string& key = item.key();
    const Json& value = item.value();
    AddedToken token;
    if (!absl::SimpleAtoi(key, &token.id) || token.id < 0 || token.id > kMaxAddedId ||
        !value.is_object() || TokenText(value, "content").empty()) {
      return WrongType(path, "added_tokens_decoder", "token ids and what their tokens are");
    }
    const auto flag = [&](const char* name) {
      const auto field = value.find(name);
      return field != value.end() && field->is_boolean() && field->get<bool>();
    };
    token.content = TokenText(value, "content");
    token.special = flag("special");
    token.single_word = flag("single_word");
    token.lstrip = flag("lstrip");
    token.rstrip = flag("rstrip");
    token.normalized = false;
    out.push_back(std::move(token));
  }
  return absl::OkStatus();
}

/// The texts of all special tokens that an object names: bos_token and its like, and the list
/// additional_special_tokens.
void AppendSpecialTexts(const Json& json, std::set<std::string>& texts) {
  for (const auto& [key, value] : json.items()) {
    if (key.ends_with("_token")) texts.insert(TokenText(json, key.c_str()));
    if (key != "additional_special_tokens" || !value.is_array()) continue;
    for (const Json& token : value) texts.insert(TokenText({{"token", token}}, "token"));
  }
}

/// added_tokens.json, {"<|im_start|>": 32000, ...}: older directories have it instead of
/// added_tokens_decoder, and name the special ones elsewhere.
absl::Status ReadAddedTokensFile(const fs::path& dir, const Json& config,
                                 std::vector<AddedToken>& out) {
  const fs::path path = dir / "added_tokens.json";
  ASSIGN_OR_RETURN(const Json json, ReadJson(path));
  std::set<std::string> special;
  AppendSpecialTexts(config, special);
  ASSIGN_OR_RETURN(const Json map, ReadJson(dir / "special_tokens_map.json"));
  AppendSpecialTexts(map, special);
  for (const auto& [content, id] : json.items()) {
    if (content.empty() || !id.is_number_integer() || id < 0 || id > kMaxAddedId) {
      return absl::InvalidArgumentError(
          absl::StrCat(path.string(), ": \"", content, "\": expected a token and its id"));
    }
    AddedToken token;
    token.id = id.get<TokenId>();
    token.content = content;
    token.special = special.contains(content);
    token.normalized = !token.special;
    out.push_back(std::move(token));
  }
  return absl::OkStatus();
}

absl::StatusOr<TokenizerOptions> ReadTokenizerOptions(const Json& json, const fs::path& path) {
  TokenizerOptions options;
  RETURN_IF_ERROR(ReadFlag(json, path, "add_bos_token", options.add_bos));
  RETURN_IF_ERROR(ReadFlag(json, path, "add_eos_token", options.add_eos));
  RETURN_IF_ERROR(ReadFlag(json, path, "legacy", options.legacy));
  if (json.contains("added_tokens_decoder")) {
    RETURN_IF_ERROR(ReadAddedTokens(json, path, options.added_tokens));
  } else {
    RETURN_IF_ERROR(ReadAddedTokensFile(path.parent_path(), json, options.added_tokens));
  }
  std::sort(options.added_tokens.begin(), options.added_tokens.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  return options;
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

absl::StatusOr<TextAssets> LoadTextAssets(const std::string& dir,
                                          const std::string& chat_template) {
  if (dir.ends_with(".gguf")) return LoadGgufTextAssets(dir, chat_template);
  TextAssets assets;
  RETURN_IF_ERROR(ReadGeneration(dir, assets.defaults));
  const fs::path config_path = fs::path(dir) / "tokenizer_config.json";
  ASSIGN_OR_RETURN(const Json config, ReadJson(config_path));
  if (const fs::path file = TokenizerFile(dir); !file.empty()) {
    ASSIGN_OR_RETURN(const TokenizerOptions options, ReadTokenizerOptions(config, config_path));
    ASSIGN_OR_RETURN(assets.tokenizer, LoadTokenizer(file.string(), options));
  } else if (HasVocabularyFiles(dir)) {
    ASSIGN_OR_RETURN(const TokenizerOptions options, ReadTokenizerOptions(config, config_path));
    ASSIGN_OR_RETURN(assets.tokenizer, LoadVocabularyFiles(dir, config, options));
  }
  assets.bos_token = TokenText(config, "bos_token");
  assets.eos_token = TokenText(config, "eos_token");
  if (assets.tokenizer != nullptr && assets.defaults.eos_token_ids.empty()) {
    if (const auto id = assets.tokenizer->TokenToId(assets.eos_token))
      assets.defaults.eos_token_ids.push_back(*id);
  }
  absl::StatusOr<ChatTemplates> templates = LoadChatTemplates(dir, config, chat_template);
  if (!templates.ok()) {
    return Annotate(templates.status(), chat_template.empty() ? dir : "--chat-template");
  }
  assets.chat_templates = *std::move(templates);
  return assets;
}

}  // namespace penstock
