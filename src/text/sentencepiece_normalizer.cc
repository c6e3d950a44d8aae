#include "text/sentencepiece_normalizer.h"

#include <string>
#include <string_view>
#include <utility>

#include "base/utf8.h"

namespace penstock {
namespace {

constexpr std::string_view kEscapedBlank = "\u2581";

bool HasEnding(std::string_view text, std::string_view ending) {
  return text.size() >= ending.size() && text.substr(text.size() - ending.size()) == ending;
}

class SentencePieceNormalizer final : public Normalizer {
 public:
  explicit SentencePieceNormalizer(SentencePieceNormalizerConfig config)
      : config_(std::move(config)) {}

  void Apply(std::string* text) const override {
    std::string_view rest = *text;
    if (config_.remove_extra_whitespaces) {
      while (!rest.empty()) {
        const Charsmap::Rule first = Leading(rest);
        if (first.replacement != " ") break;
        rest.remove_prefix(first.length);
      }
    }
    if (rest.empty()) {
      text->clear();
      return;
    }
    const std::string_view blank = config_.escape_whitespaces ? kEscapedBlank : " ";
    std::string out;
    out.reserve(rest.size() + rest.size() / 2);
    if (config_.add_dummy_prefix && !config_.whitespace_as_suffix) out += blank;
    AppendNormalized(rest, blank, &out);
    while (config_.remove_extra_whitespaces && HasEnding(out, blank)) {
      out.resize(out.size() - blank.size());
    }
    if (config_.add_dummy_prefix && config_.whitespace_as_suffix) out += blank;
    *text = std::move(out);
  }

 private:
  // What the text starts with, and what becomes of it.
  Charsmap::Rule Leading(std::string_view text) const {
    if (config_.kept != nullptr) {
      const size_t kept = config_.kept->Longest(text, 0).length;
      if (kept > 0) return {kept, text.substr(0, kept)};
    }
    if (config_.charsmap) {
      if (const std::optional<Charsmap::Rule> rule = config_.charsmap->Longest(text)) return *rule;
    }
    const size_t length = DecodeUtf8(text, 0).length;
    return {length, text.substr(0, length)};
  }

  void AppendNormalized(std::string_view rest, std::string_view blank, std::string* out) const {
    bool after_blank = config_.remove_extra_whitespaces;
    while (!rest.empty()) {
      const Charsmap::Rule rule = Leading(rest);
      rest.remove_prefix(rule.length);
      std::string_view added = rule.replacement;
      while (after_blank && !added.empty() && added.front() == ' ') added.remove_prefix(1);
      if (!added.empty()) after_blank = config_.remove_extra_whitespaces && added.back() == ' ';
      for (const char c : added) {
        if (c == ' ') {
          *out += blank;
        } else {
          out->push_back(c);
        }
      }
    }
  }

  SentencePieceNormalizerConfig config_;
};

}  // namespace

std::unique_ptr<Normalizer> MakeSentencePieceNormalizer(SentencePieceNormalizerConfig config) {
  return std::make_unique<SentencePieceNormalizer>(std::move(config));
}

}  // namespace penstock
