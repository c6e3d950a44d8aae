// The well-known split patterns as code: where the word that begins at a position ends, in one pass
// and in linear time.
// Owns nothing but the pattern's features. Must not know tokens.
// Threads: immutable.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "text/char_class.h"

namespace penstock {

class WordScanner {
 public:
  /// The scanner that cuts as the regular expression does; absent where it is none of the known
  /// ones.
  static std::optional<WordScanner> Find(std::string_view regex);

  /// The end of the word at `pos`, which is a boundary inside `text`; `text` is valid UTF-8.
  size_t End(std::string_view text, size_t pos) const;

 private:
  enum class Words { kAfterBlank, kAfterAny, kByCase };  // what may stand before a word's letters
  struct Features {
    Words words;
    bool contraction_before;  // 's, 're, ... are words, in any case
    bool contraction_after;   // or belong to the word before them
    bool marks_are_letters;
    int max_digits;                     // 0: any number
    std::string_view ends_punctuation;  // what may follow it in the same word
    bool keeps_last_space;              // white space at the text's end is one word
  };
  struct Point;
  class Cursor;

  explicit WordScanner(const Features& features)
      : features_(features), classes_(&CharClasses::Get()) {}
  size_t Letters(const Cursor& at, size_t pos) const;
  size_t LettersByCase(const Cursor& at, size_t pos) const;
  size_t CaseRun(const Cursor& at, size_t pos) const;
  size_t Space(const Cursor& at, size_t pos) const;

  Features features_;
  const CharClasses* classes_;
};

}  // namespace penstock
