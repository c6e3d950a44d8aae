#include "text/tokenizer_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

absl::Status WrongTypeOf(const std::string& path, const char* key, const char* expected) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", key, ": expected ", expected));
}

absl::Status ReadFlag(const Json& json, const std::string& path, const char* key,
                      std::optional<bool>& out) {
  const auto it = json.find(key);
  if (it == json.end() || it->is_null()) return absl::OkStatus();
  if (!it->is_boolean()) return WrongTypeOf(path, key, "true or false");
  out = it->get<bool>();
  return absl::OkStatus();
}

void SortByIds(std::vector<AddedToken>& tokens) {
  std::sort(tokens.begin(), tokens.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
}

/// {"32000": {"content": "<|im_start|>", "special": true, ...}, ...}
absl::Status ReadAddedTokens(const Json& json, const std::string& path,
                             std::vector<AddedToken>& out) {
  const auto it = json.find("added_tokens_decoder");
  if (it == json.end() || !it->is_object()) return absl::OkStatus();
  for (const auto& item : it->items()) {
    const std::string& key = item.key();
    const Json& value = item.value();
    AddedToken token;
    if (!absl::SimpleAtoi(key, &token.id) || token.id < 0 || token.id > kMaxAddedTokenId ||
        !value.is_object() || TokenText(value, "content").empty()) {
      return WrongTypeOf(path, "added_tokens_decoder", "token ids and what their tokens are");
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
  SortByIds(out);
  return absl::OkStatus();
}

/// The texts of all special tokens that an object names: bos_token and its like, and the list
/// additional_special_tokens.
void AppendSpecialTexts(const Json& json, std::set<std::string>& texts) {
  for (const auto& [key, value] : json.items()) {
    if (key.ends_with("_token")) texts.insert(TokenText(json, key));
    if (key != "additional_special_tokens" || !value.is_array()) continue;
    for (const Json& token : value) texts.insert(TokenText({{"token", token}}, "token"));
  }
}

}  // namespace

absl::StatusOr<Json> ParseJsonObject(std::string_view text, const std::string& path) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object())
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected a JSON object"));
  return json;
}

std::string TokenText(const Json& object, const std::string& key) {
  const auto it = object.find(key);
  if (it == object.end()) return "";
  if (it->is_string()) return it->get<std::string>();
  if (!it->is_object()) return "";
  const auto content = it->find("content");
  return content != it->end() && content->is_string() ? content->get<std::string>() : "";
}

absl::StatusOr<TokenizerOptions> ReadTokenizerOptions(const Json& tokenizer_config,
                                                      const std::string& path) {
  TokenizerOptions options;
  RETURN_IF_ERROR(ReadFlag(tokenizer_config, path, "add_bos_token", options.add_bos));
  RETURN_IF_ERROR(ReadFlag(tokenizer_config, path, "add_eos_token", options.add_eos));
  RETURN_IF_ERROR(ReadFlag(tokenizer_config, path, "legacy", options.legacy));
  RETURN_IF_ERROR(ReadAddedTokens(tokenizer_config, path, options.added_tokens));
  return options;
}

absl::StatusOr<std::vector<AddedToken>> ReadAddedTokensFile(const Json& added_tokens,
                                                            const std::string& path,
                                                            const Json& tokenizer_config,
                                                            const Json& special_tokens_map) {
  std::set<std::string> special;
  AppendSpecialTexts(tokenizer_config, special);
  AppendSpecialTexts(special_tokens_map, special);
  std::vector<AddedToken> tokens;
  for (const auto& [content, id] : added_tokens.items()) {
    if (content.empty() || !id.is_number_integer() || id < 0 || id > kMaxAddedTokenId) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": \"", content, "\": expected a token and its id"));
    }
    AddedToken token;
    token.id = id.get<TokenId>();
    token.content = content;
    token.special = special.contains(content);
    token.normalized = !token.special;
    tokens.push_back(std::move(token));
  }
  SortByIds(tokens);
  return tokens;
}

}  // namespace penstock
