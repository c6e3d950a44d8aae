#include "text/normalizer.h"

#include <functional>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "text/byte_level.h"
#include "text/charsmap.h"
#include "text/json_fields.h"
#include "text/pattern.h"
#include "text/unicode.h"

namespace penstock {
namespace {

// Most normalizers are one function of the text.
class FunctionNormalizer final : public Normalizer {
 public:
  explicit FunctionNormalizer(std::function<std::string(std::string_view)> function)
      : function_(std::move(function)) {}
  void Apply(std::string* text) const override { *text = function_(*text); }

 private:
  std::function<std::string(std::string_view)> function_;
};

class SequenceNormalizer final : public Normalizer {
 public:
  explicit SequenceNormalizer(std::vector<std::unique_ptr<Normalizer>> steps)
      : steps_(std::move(steps)) {}
  void Apply(std::string* text) const override {
    for (const auto& step : steps_) step->Apply(text);
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> steps_;
};

// Keeps, drops or rewrites one code point at a time.
template <class Fn>
std::string MapCodePoints(std::string_view text, Fn fn) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const DecodedCodePoint c = DecodeUtf8(text, pos);
    pos += c.length;
    fn(c.value, &out);
  }
  return out;
}

std::string StripMarks(std::string_view text) {
  return MapCodePoints(text, [](char32_t c, std::string* out) {
    if (!unicode::IsMark(c)) AppendUtf8(c, out);
  });
}

std::string StripNonspacingMarks(std::string_view text) {
  return MapCodePoints(text, [](char32_t c, std::string* out) {
    if (!unicode::IsNonspacingMark(c)) AppendUtf8(c, out);
  });
}

std::string StripWhitespace(std::string_view text, bool left, bool right) {
  const std::u32string points = ToCodePoints(text);
  size_t begin = 0;
  size_t end = points.size();
  while (left && begin < end && unicode::IsWhitespace(points[begin])) ++begin;
  while (right && end > begin && unicode::IsWhitespace(points[end - 1])) --end;
  return FromCodePoints(std::u32string_view(points).substr(begin, end - begin));
}

// Control characters go, other white space becomes a blank.
std::string CleanText(std::string_view text) {
  return MapCodePoints(text, [](char32_t c, std::string* out) {
    if (c == 0 || c == kReplacementCharacter || unicode::IsControl(c)) return;
    AppendUtf8(unicode::IsWhitespace(c) ? U' ' : c, out);
  });
}

std::string SpaceOutIdeographs(std::string_view text) {
  return MapCodePoints(text, [](char32_t c, std::string* out) {
    const bool ideograph = unicode::IsCjkIdeograph(c);
    if (ideograph) out->push_back(' ');
    AppendUtf8(c, out);
    if (ideograph) out->push_back(' ');
  });
}

// The clean-up of SentencePiece's "nmt" rules.
std::string NmtClean(std::string_view text) {
  return MapCodePoints(text, [](char32_t c, std::string* out) {
    const bool dropped =
        (c >= 1 && c <= 8) || c == 11 || (c >= 14 && c <= 31) || c == 127 || c == 0x8F || c == 0x9F;
    if (dropped) return;
    const bool blank = c == 9 || c == 10 || c == 12 || c == 13 || c == 0x1680 ||
                       (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                       c == 0xFEFF || c == 0xFFFD;
    AppendUtf8(blank ? U' ' : c, out);
  });
}

struct BertOptions {
  bool clean = true;
  bool space_ideographs = true;
  bool strip_accents = false;
  bool lowercase = true;
};

std::string NormalizeForBert(std::string_view text, const BertOptions& options) {
  std::string out(text);
  if (options.clean) out = CleanText(out);
  if (options.space_ideographs) out = SpaceOutIdeographs(out);
  if (options.strip_accents) {
    out = StripNonspacingMarks(unicode::Normalize(unicode::NormalForm::kNfd, out));
  }
  if (options.lowercase) out = unicode::ToLower(out);
  return out;
}

using Result = absl::StatusOr<std::unique_ptr<Normalizer>>;

std::unique_ptr<Normalizer> Make(std::function<std::string(std::string_view)> function) {
  return std::make_unique<FunctionNormalizer>(std::move(function));
}

Result MakeBert(const nlohmann::json& config) {
  BertOptions options;
  ASSIGN_OR_RETURN(options.clean, json_fields::BoolOr(config, "clean_text", true));
  ASSIGN_OR_RETURN(options.space_ideographs,
                   json_fields::BoolOr(config, "handle_chinese_chars", true));
  ASSIGN_OR_RETURN(options.lowercase, json_fields::BoolOr(config, "lowercase", true));
  ASSIGN_OR_RETURN(options.strip_accents,
                   json_fields::BoolOr(config, "strip_accents", options.lowercase));
  return Make([options](std::string_view text) { return NormalizeForBert(text, options); });
}

Result MakeSequence(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const nlohmann::json* list, json_fields::Array(config, "normalizers"));
  std::vector<std::unique_ptr<Normalizer>> steps;
  for (const nlohmann::json& step : *list) {
    ASSIGN_OR_RETURN(auto made, MakeNormalizer(step));
    steps.push_back(std::move(made));
  }
  return std::make_unique<SequenceNormalizer>(std::move(steps));
}

Result MakeReplace(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const Pattern pattern, MakePattern(config, "pattern"));
  ASSIGN_OR_RETURN(const std::string content, json_fields::String(config, "content"));
  return Make(
      [pattern, content](std::string_view text) { return pattern.ReplaceAll(text, content); });
}

Result MakeStrip(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const bool left, json_fields::BoolOr(config, "strip_left", true));
  ASSIGN_OR_RETURN(const bool right, json_fields::BoolOr(config, "strip_right", true));
  return Make([left, right](std::string_view text) { return StripWhitespace(text, left, right); });
}

Result MakePrepend(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const std::string prefix, json_fields::String(config, "prepend"));
  return Make([prefix](std::string_view text) {
    return text.empty() ? std::string() : absl::StrCat(prefix, ToAbsl(text));
  });
}

Result MakePrecompiled(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const std::string encoded,
                   json_fields::StringOr(config, "precompiled_charsmap", ""));
  if (encoded.empty()) return Make([](std::string_view text) { return std::string(text); });
  std::string blob;
  if (!absl::Base64Unescape(encoded, &blob))
    return absl::InvalidArgumentError("\"precompiled_charsmap\": expected base64");
  ASSIGN_OR_RETURN(Charsmap parsed, Charsmap::Parse(blob));
  return Make([map = std::make_shared<const Charsmap>(std::move(parsed))](std::string_view text) {
    return map->NormalizeGraphemes(text);
  });
}

Result MakeForm(unicode::NormalForm form) {
  return Make([form](std::string_view text) { return unicode::Normalize(form, text); });
}

}  // namespace

Result MakeNormalizer(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const std::string type, json_fields::String(config, "type"));
  if (type == "Sequence") return MakeSequence(config);
  if (type == "NFC") return MakeForm(unicode::NormalForm::kNfc);
  if (type == "NFD") return MakeForm(unicode::NormalForm::kNfd);
  if (type == "NFKC") return MakeForm(unicode::NormalForm::kNfkc);
  if (type == "NFKD") return MakeForm(unicode::NormalForm::kNfkd);
  if (type == "Lowercase") return Make(unicode::ToLower);
  if (type == "Strip") return MakeStrip(config);
  if (type == "StripAccents") return Make(StripMarks);
  if (type == "Prepend") return MakePrepend(config);
  if (type == "Replace") return MakeReplace(config);
  if (type == "BertNormalizer") return MakeBert(config);
  if (type == "ByteLevel") return Make(byte_level::Encode);
  if (type == "Nmt") return Make(NmtClean);
  if (type == "Precompiled") return MakePrecompiled(config);
  return absl::UnimplementedError(absl::StrCat("normalizer type \"", type, "\" is not supported"));
}

Result MakeNormalizerNamed(const std::string& type) { return MakeNormalizer({{"type", type}}); }

}  // namespace penstock
