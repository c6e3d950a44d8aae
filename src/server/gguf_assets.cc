// The text parts of a GGUF file: vocabulary, chat templates, what ends an answer.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "format/gguf.h"
#include "server/model_instance.h"
#include "text/gguf_vocabulary.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kVocabulary = "tokenizer.ggml.";
constexpr std::string_view kTemplate = "tokenizer.chat_template";

/// Tokens that end an answer although no key of the file says so.
constexpr std::string_view kEndTokens[] = {"<|eot_id|>",    "<|im_end|>", "<|end|>",
                                           "<|return|>",    "<|call|>",   "<end_of_turn>",
                                           "<|endoftext|>", "<|eom_id|>", "<|end_of_text|>"};

class VocabularyReader {
 public:
  explicit VocabularyReader(const Gguf& file) : file_(file) {}

  absl::StatusOr<GgufVocabulary> Read() {
    GgufVocabulary v;
    ASSIGN_OR_RETURN(const auto model, file_.String(Key("model")));
    if (!model) return v;
    v.model = std::string(*model);
    ASSIGN_OR_RETURN(const auto pre, file_.String(Key("pre")));
    v.pre = std::string(pre.value_or(""));
    ASSIGN_OR_RETURN(v.tokens, Texts("tokens"));
    ASSIGN_OR_RETURN(v.merges, Texts("merges"));
    RETURN_IF_ERROR(ReadNumbers(v));
    RETURN_IF_ERROR(ReadCharsmap(v));
    RETURN_IF_ERROR(ReadId("bos_token_id", v.bos_id));
    RETURN_IF_ERROR(ReadId("eos_token_id", v.eos_id));
    RETURN_IF_ERROR(ReadId("unknown_token_id", v.unk_id));
    RETURN_IF_ERROR(ReadId("seperator_token_id", v.sep_id));  // as the format spells it
    ASSIGN_OR_RETURN(v.add_bos, file_.Bool(Key("add_bos_token")));
    ASSIGN_OR_RETURN(v.add_eos, file_.Bool(Key("add_eos_token")));
    ASSIGN_OR_RETURN(v.add_space_prefix, file_.Bool(Key("add_space_prefix")));
    ASSIGN_OR_RETURN(v.remove_extra_whitespaces, file_.Bool(Key("remove_extra_whitespaces")));
    return v;
  }

  absl::Status ReadId(std::string_view name, std::optional<TokenId>& out) const {
    ASSIGN_OR_RETURN(const std::optional<int64_t> id, file_.Int(Key(name)));
    if (!id || *id == 0xFFFFFFFF) return absl::OkStatus();  // the format's "none"
    if (*id < 0 || *id > INT32_MAX) {
      return absl::InvalidArgumentError(
          absl::StrCat(file_.paths()[0], ": ", Key(name), ": expected a token id"));
    }
    out = static_cast<TokenId>(*id);
    return absl::OkStatus();
  }

 private:
  static std::string Key(std::string_view name) {
    return absl::StrCat(ToAbsl(kVocabulary), ToAbsl(name));
  }

  absl::StatusOr<std::vector<std::string>> Texts(std::string_view name) const {
    ASSIGN_OR_RETURN(const std::vector<std::string_view> views, file_.Strings(Key(name)));
    return std::vector<std::string>(views.begin(), views.end());
  }

  absl::Status ReadNumbers(GgufVocabulary& v) const {
    ASSIGN_OR_RETURN(const GgufValue* scores, file_.Floats(Key("scores")));
    for (uint64_t i = 0; scores != nullptr && i < scores->size; ++i)
      v.scores.push_back(static_cast<float>(scores->Float(i)));
    ASSIGN_OR_RETURN(const GgufValue* types, file_.Ints(Key("token_type")));
    for (uint64_t i = 0; types != nullptr && i < types->size; ++i)
      v.token_types.push_back(static_cast<int32_t>(std::clamp<int64_t>(types->Int(i), 0, 255)));
    return absl::OkStatus();
  }

  absl::Status ReadCharsmap(GgufVocabulary& v) const {
    ASSIGN_OR_RETURN(const GgufValue* bytes, file_.Ints(Key("precompiled_charsmap")));
    for (uint64_t i = 0; bytes != nullptr && i < bytes->size; ++i)
      v.precompiled_charsmap.push_back(static_cast<char>(bytes->Int(i)));
    return absl::OkStatus();
  }

  const Gguf& file_;
};

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
  VocabularyReader reader(file);
  ASSIGN_OR_RETURN(GgufVocabulary vocabulary, reader.Read());
  TextAssets assets;
  assets.bos_token = TextOf(vocabulary, vocabulary.bos_id);
  assets.eos_token = TextOf(vocabulary, vocabulary.eos_id);
  std::vector<TokenId>& ends = assets.defaults.eos_token_ids;
  for (const std::string_view key : {"eos_token_id", "eot_token_id", "eom_token_id"}) {
    std::optional<TokenId> id;
    RETURN_IF_ERROR(reader.ReadId(key, id));
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
  return assets;
}

}  // namespace penstock
