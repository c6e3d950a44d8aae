#include "text/gguf_vocabulary_reader.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {
namespace {

constexpr std::string_view kVocabulary = "tokenizer.ggml.";

class VocabularyReader {
 public:
  explicit VocabularyReader(const Gguf& file) : file_(file) {}

  absl::StatusOr<GgufVocabulary> Read() {
    GgufVocabulary v;
    RETURN_IF_ERROR(ReadId("bos_token_id", v.bos_id));
    RETURN_IF_ERROR(ReadId("eos_token_id", v.eos_id));
    RETURN_IF_ERROR(ReadId("eot_token_id", v.eot_id));
    RETURN_IF_ERROR(ReadId("eom_token_id", v.eom_id));
    RETURN_IF_ERROR(ReadId("unknown_token_id", v.unk_id));
    RETURN_IF_ERROR(ReadId("seperator_token_id", v.sep_id));  // as the format spells it
    ASSIGN_OR_RETURN(const auto model, file_.String(Key("model")));
    if (!model) return v;
    v.model = std::string(*model);
    ASSIGN_OR_RETURN(const auto pre, file_.String(Key("pre")));
    v.pre = std::string(pre.value_or(""));
    ASSIGN_OR_RETURN(v.tokens, Texts("tokens"));
    ASSIGN_OR_RETURN(v.merges, Texts("merges"));
    RETURN_IF_ERROR(ReadNumbers(v));
    RETURN_IF_ERROR(ReadCharsmap(v));
    ASSIGN_OR_RETURN(v.add_bos, file_.Bool(Key("add_bos_token")));
    ASSIGN_OR_RETURN(v.add_eos, file_.Bool(Key("add_eos_token")));
    ASSIGN_OR_RETURN(v.add_space_prefix, file_.Bool(Key("add_space_prefix")));
    ASSIGN_OR_RETURN(v.remove_extra_whitespaces, file_.Bool(Key("remove_extra_whitespaces")));
    return v;
  }

 private:
  static std::string Key(std::string_view name) {
    return absl::StrCat(ToAbsl(kVocabulary), ToAbsl(name));
  }

  absl::StatusOr<std::vector<std::string>> Texts(std::string_view name) const {
    ASSIGN_OR_RETURN(const std::vector<std::string_view> views, file_.Strings(Key(name)));
    return std::vector<std::string>(views.begin(), views.end());
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

}  // namespace

absl::StatusOr<GgufVocabulary> ReadGgufVocabulary(const Gguf& file) {
  return VocabularyReader(file).Read();
}

}  // namespace penstock
