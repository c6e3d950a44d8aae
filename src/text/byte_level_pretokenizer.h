// A pre-tokenizer that writes each word's bytes in the byte-level alphabet, with whatever cuts
// before and after that: what nearly every byte-level tokenizer does.
// Owns its steps. Must not know tokens.
// Threads: immutable.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/pretokenizer.h"
#include "text/word_scanner.h"

namespace penstock {

/// Every step but the alphabet itself only cuts (PreTokenizer::only_cuts).
struct ByteLevelSteps {
  std::vector<std::unique_ptr<PreTokenizer>> before;  // see the text as it is
  std::optional<WordScanner> words;                   // cuts what `before` leaves
  std::vector<std::unique_ptr<PreTokenizer>> after;   // see the alphabet
};

class ByteLevelPreTokenizer final : public PreTokenizer {
 public:
  explicit ByteLevelPreTokenizer(ByteLevelSteps steps) : steps_(std::move(steps)) {}

  void Apply(PreTokenized* input) const override;
  const ByteLevelPreTokenizer* as_byte_level() const override { return this; }

  /// Calls fn(word) for each word of `text` in order; what a word becomes depends on it alone.
  template <class Fn>
  void ForEachWord(std::string_view text, Fn fn) const {
    if (steps_.before.empty()) {
      CutPiece(text, fn);
      return;
    }
    const PreTokenized cut = Cut(text);
    for (const TextRange& piece : cut.pieces)
      CutPiece(text.substr(piece.begin, piece.end - piece.begin), fn);
  }
  /// Calls fn(part) for each part, in the byte-level alphabet, of a word.
  template <class Fn>
  void ForEachPart(std::string_view word, Fn fn) const {
    if (steps_.after.empty()) {
      fn(Written(word));
      return;
    }
    const PreTokenized parts = WrittenAndCut(word);
    for (const TextRange& part : parts.pieces) fn(parts.Piece(part));
  }
  /// The steps, for one that goes on where this one ends.
  ByteLevelSteps TakeSteps() { return std::move(steps_); }

 private:
  template <class Fn>
  void CutPiece(std::string_view piece, Fn& fn) const {
    if (!steps_.words) {
      fn(piece);
      return;
    }
    for (size_t pos = 0; pos < piece.size();) {
      const size_t end = steps_.words->End(piece, pos);
      fn(piece.substr(pos, end - pos));
      pos = end;
    }
  }
  PreTokenized Cut(std::string_view text) const;
  static std::string Written(std::string_view word);
  PreTokenized WrittenAndCut(std::string_view word) const;

  ByteLevelSteps steps_;
};

}  // namespace penstock
