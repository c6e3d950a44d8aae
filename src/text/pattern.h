// A "pattern" of a tokenizer.json: a literal string or a regular expression, and the ways to split
// at its matches.
// Owns the compiled expression. Must not know tokens.
// Threads: immutable.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/regex.h"

namespace penstock {

/// A range of bytes of a text.
struct TextRange {
  size_t begin = 0;
  size_t end = 0;
  friend bool operator==(const TextRange&, const TextRange&) = default;
};

/// A part of a text that is a match or lies between two.
struct PatternSpan {
  TextRange range;
  bool is_match = false;
};

/// What becomes of the matches when a text is split at them.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

absl::StatusOr<SplitBehavior> ParseSplitBehavior(std::string_view name);

/// Appends the pieces that `spans`, which cover a text in order, make; empty pieces are left out.
void SplitSpans(const std::vector<PatternSpan>& spans, SplitBehavior behavior,
                std::vector<TextRange>* pieces);

class Pattern {
 public:
  explicit Pattern(Regex regex) : regex_(std::move(regex)) {}
  explicit Pattern(std::string literal) : literal_(std::move(literal)) {}
  /// Covers `text` with matches and what lies between; ranges are those of `text`, moved by
  /// `offset`.
  void Find(std::string_view text, size_t offset, std::vector<PatternSpan>* spans) const;
  std::string ReplaceAll(std::string_view text, std::string_view content) const;

 private:
  template <class Fn>
  void ForEachMatch(std::string_view text, Fn fn) const;

  std::optional<Regex> regex_;  // without: the literal
  std::string literal_;
};

/// From {"String": ...}, {"Regex": ...} or a bare string, the member `key` of `config`.
absl::StatusOr<Pattern> MakePattern(const nlohmann::json& config, std::string_view key);

}  // namespace penstock
