#include "text/word_scanner.h"

#include "text/split_patterns.h"

namespace penstock {

struct WordScanner::Point {
  char32_t value = 0;
  uint8_t flags = 0;  // of CharClasses; 0 at the end of the text
  uint8_t length = 0;
};

// Reads code points and runs of them. The text is known to be valid.
class WordScanner::Cursor {
 public:
  Cursor(std::string_view text, const CharClasses& classes) : text_(text), classes_(classes) {}

  size_t size() const { return text_.size(); }
  Point At(size_t pos) const {
    if (pos >= text_.size()) return {};
    const uint8_t lead = Byte(pos);
    if (lead < 0x80) return {lead, classes_.of_ascii(lead), 1};
    const uint8_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    char32_t value = lead & (0xFF >> (length + 1));
    for (uint8_t i = 1; i < length; ++i) value = value << 6 | (Byte(pos + i) & 0x3F);
    return {value, classes_.of(value), length};
  }
  /// The end of the run of code points with any of `flags`.
  size_t RunOf(uint8_t flags, size_t pos) const {
    for (Point p = At(pos); (p.flags & flags) != 0; p = At(pos)) pos += p.length;
    return pos;
  }
  /// The end of the run of code points with none of `flags`.
  size_t RunWithout(uint8_t flags, size_t pos) const {
    for (Point p = At(pos); p.length != 0 && (p.flags & flags) == 0; p = At(pos)) pos += p.length;
    return pos;
  }
  size_t RunOfAny(std::string_view bytes, size_t pos) const {
    while (pos < text_.size() && bytes.find(text_[pos]) != std::string_view::npos) ++pos;
    return pos;
  }
  /// The end of 's, 't, 'm, 'd, 're, 've or 'll at `pos`; `pos` where there is none.
  size_t Contraction(size_t pos, bool any_case) const {
    if (pos + 1 >= text_.size() || text_[pos] != '\'') return pos;
    const char first = Lower(pos + 1, any_case);
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return pos + 2;
    if (any_case && text_.substr(pos + 1, 2) == "\u017F") return pos + 3;  // a long s
    const char second = pos + 2 < text_.size() ? Lower(pos + 2, any_case) : '\0';
    const bool two =
        (second == 'e' && (first == 'r' || first == 'v')) || (second == 'l' && first == 'l');
    return two ? pos + 3 : pos;
  }

 private:
  uint8_t Byte(size_t pos) const { return static_cast<uint8_t>(text_[pos]); }
  char Lower(size_t pos, bool any_case) const {
    const char c = text_[pos];
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
  }

  std::string_view text_;
  const CharClasses& classes_;
};

std::optional<WordScanner> WordScanner::Find(std::string_view regex) {
  using namespace split_patterns;
  static constexpr std::pair<std::string_view, Features> kKnown[] = {
      {kGpt2, {Words::kAfterBlank, false, false, false, 0, "", false}},
      {kLlama3, {Words::kAfterAny, true, false, false, 3, "\r\n", false}},
      {kQwen2, {Words::kAfterAny, true, false, false, 1, "\r\n", false}},
      {kQwen35, {Words::kAfterAny, true, false, true, 1, "\r\n", false}},
      {kCl100k, {Words::kAfterAny, true, false, false, 3, "\r\n", true}},
      {kO200k, {Words::kByCase, false, true, false, 3, "\r\n/", false}},
      {kTekken, {Words::kByCase, false, false, false, 1, "\r\n/", false}}};
  for (const auto& [known, features] : kKnown) {
    if (regex == known) return WordScanner(features);
  }
  return std::nullopt;
}

// The end of the letters that begin at `pos`, or behind the one character that may stand before
// them; `pos` where there are none.
size_t WordScanner::Letters(const Cursor& at, size_t pos) const {
  using C = CharClasses;
  const uint8_t letters = C::kAnyLetter | (features_.marks_are_letters ? C::kMark : 0);
  const Point first = at.At(pos);
  if ((first.flags & letters) != 0) return at.RunOf(letters, pos);
  const bool skips = features_.words == Words::kAfterBlank
                         ? first.value == ' '
                         : (first.flags & (C::kBreak | C::kNumber)) == 0;
  const size_t begin = pos + first.length;
  const size_t end = skips ? at.RunOf(letters, begin) : begin;
  return end > begin ? end : pos;
}

// A run of capitals and then of small letters, where caseless letters and marks are both. It ends
// with a small letter where it can, else it is of capitals alone.
size_t WordScanner::CaseRun(const Cursor& at, size_t pos) const {
  using C = CharClasses;
  constexpr uint8_t kCapitals = C::kUpper | C::kLetter | C::kMark;
  constexpr uint8_t kSmall = C::kLower | C::kLetter | C::kMark;
  size_t end = pos;
  size_t last_both = pos;  // the end of the last character that is both
  for (Point p = at.At(end); (p.flags & kCapitals) != 0; p = at.At(end)) {
    end += p.length;
    if ((p.flags & kSmall) != 0) last_both = end;
  }
  if ((at.At(end).flags & kSmall) != 0) return at.RunOf(kSmall, end);
  return last_both > pos ? last_both : end;
}

size_t WordScanner::LettersByCase(const Cursor& at, size_t pos) const {
  using C = CharClasses;
  const Point first = at.At(pos);
  constexpr uint8_t kNotBefore = C::kAnyLetter | C::kMark | C::kNumber | C::kBreak;
  const size_t begin = (first.flags & kNotBefore) == 0 ? pos + first.length : pos;
  const size_t end = CaseRun(at, begin);
  if (end == begin) return pos;
  return features_.contraction_after ? at.Contraction(end, /*any_case=*/true) : end;
}

// Up to the last line break of a run of white space; without one, all of it but the last character,
// which goes to the word behind.
size_t WordScanner::Space(const Cursor& at, size_t pos) const {
  size_t end = pos;
  size_t last = pos;
  size_t after_break = pos;
  for (Point p = at.At(end); (p.flags & CharClasses::kSpace) != 0; p = at.At(end)) {
    last = end;
    end += p.length;
    if ((p.flags & CharClasses::kBreak) != 0) after_break = end;
  }
  if (features_.keeps_last_space && end == at.size()) return end;
  if (features_.words != Words::kAfterBlank && after_break > pos) return after_break;
  if (end == at.size() || last == pos) return end;
  return last;
}

size_t WordScanner::End(std::string_view text, size_t pos) const {
  using C = CharClasses;
  const Cursor at(text, *classes_);
  const bool gpt2 = features_.words == Words::kAfterBlank;
  if (text[pos] == '\'' && (gpt2 || features_.contraction_before)) {
    const size_t end = at.Contraction(pos, /*any_case=*/!gpt2);
    if (end > pos) return end;
  }
  const bool by_case = features_.words == Words::kByCase;
  const size_t letters = by_case ? LettersByCase(at, pos) : Letters(at, pos);
  if (letters > pos) return letters;
  const Point first = at.At(pos);
  const size_t begin = first.value == ' ' ? pos + 1 : pos;  // a blank may stand before
  if ((first.flags & C::kNumber) != 0 || (gpt2 && (at.At(begin).flags & C::kNumber) != 0)) {
    if (features_.max_digits == 0) return at.RunOf(C::kNumber, begin);
    size_t end = pos;
    for (int i = 0; i < features_.max_digits && (at.At(end).flags & C::kNumber) != 0; ++i) {
      end += at.At(end).length;
    }
    return end;
  }
  const uint8_t not_punctuation =
      C::kSpace | C::kAnyLetter | C::kNumber | (features_.marks_are_letters ? C::kMark : 0);
  const size_t punctuation = at.RunWithout(not_punctuation, begin);
  if (punctuation > begin) return at.RunOfAny(features_.ends_punctuation, punctuation);
  return Space(at, pos);
}

}  // namespace penstock
