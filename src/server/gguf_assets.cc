// The text parts of a GGUF file: vocabulary, chat templates, what ends an answer.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/status_macros.h"
#include "base/strings.h"
#include "format/gguf.h"
#include "server/model_instance.h"
#include "text/gguf_vocabulary.h"
#include "text/gguf_vocabulary_reader.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kTemplate = "tokenizer.chat_template";

/// Tokens that end an answer although no key of the file says so.
constexpr std::string_view kEndTokens[] = {"<|eot_id|>",    "<|im_end|>", "<|end|>",
                                           "<|return|>",    "<|call|>",   "<end_of_turn>",
                                           "<|endoftext|>", "<|eom_id|>", "<|end_of_text|>"};

/// The templates of the file in the form of tokenizer_config.json.
absl::StatusOr<Json> TemplatesOf(const Gguf& file) {
  Json list = Json::array();
  for (const auto& [key, value] : file.contents().metadata) {
    if (!key.starts_with(kTemplate) || value.is_array || value.type != GgufType::kString) continue;
    ASSIGN_OR_RETURN(const auto source, file.String(key));
    std::string name(key.substr(std::min(key.size(), kTemplate.size() + 1)));
    if (name.empty()) name = "default";
    list.push_back({{"name", name}, {"template", std::string(source.value_or(""))}});
  }
  Json config = Json::object();
  if (!list.empty()) config["chat_template"] = std::move(list);
  return config;
}

std::string TextOf(const GgufVocabulary& v, const std::optional<TokenId>& id) {
  return id && *id < static_cast<TokenId>(v.tokens.size()) ? v.tokens[*id] : "";
}

}  // namespace

absl::StatusOr<TextAssets> LoadGgufTextAssets(const std::string& path,
                                              const std::string& chat_template) {
  ASSIGN_OR_RETURN(const Gguf file, Gguf::Open(path));
  ASSIGN_OR_RETURN(GgufVocabulary vocabulary, ReadGgufVocabulary(file));
  TextAssets assets;
  assets.bos_token = TextOf(vocabulary, vocabulary.bos_id);
  assets.eos_token = TextOf(vocabulary, vocabulary.eos_id);
  std::vector<TokenId>& ends = assets.defaults.eos_token_ids;
  for (const auto& id : {vocabulary.eos_id, vocabulary.eot_id, vocabulary.eom_id}) {
    if (id) ends.push_back(*id);
  }
  if (!vocabulary.model.empty() && vocabulary.model != "none") {
    absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = MakeGgufTokenizer(std::move(vocabulary));
    if (!tokenizer.ok()) return Annotate(tokenizer.status(), path);
    assets.tokenizer = *std::move(tokenizer);
    for (const std::string_view text : kEndTokens) {
      const std::optional<TokenId> id = assets.tokenizer->TokenToId(text);
      if (id && assets.tokenizer->is_special(*id)) ends.push_back(*id);
    }
  }
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  ASSIGN_OR_RETURN(const Json config, TemplatesOf(file));
  absl::StatusOr<ChatTemplates> templates = LoadChatTemplates(path, config, chat_template);
  if (!templates.ok())
    return Annotate(templates.status(), chat_template.empty() ? path : "--chat-template");
  assets.chat_templates = *std::move(templates);
  RETURN_IF_ERROR(file.Intact());
  return assets;
}

}  // namespace penstock
