// What the written notations of grammars have in common: a place in a text, characters with escapes,
// alternatives of sequences of items.
// Owns the text and the builder. Must not know tokens.
// Threads: confined to one thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "text/grammar/grammar.h"

namespace penstock::grammar {

class NotationReader {
 protected:
  using Expr = GrammarBuilder::Expr;
  struct Entry {
    GrammarBuilder::Rule rule = -1;
    bool defined = false;
  };

  explicit NotationReader(std::string_view text);
  virtual ~NotationReader() = default;

  bool done() const { return at_ >= text_.size(); }
  char32_t peek(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : 0;
  }
  bool Take(char32_t c);
  bool Take(std::u32string_view word);
  /// Each with line and column.
  absl::Status Wrong(std::string_view what) const {
    return Failed(absl::StatusCode::kInvalidArgument, what);
  }
  absl::Status Unsupported(std::string_view what) const {
    return Failed(absl::StatusCode::kUnimplemented, what);
  }
  absl::Status Failed(absl::StatusCode code, std::string_view what) const;
  /// Blanks and comments; `lines`: ends of lines as well.
  void SkipBlanks(bool lines);

  absl::StatusOr<int64_t> ReadNumber();
  /// One character of a literal or class, escaped or not.
  absl::StatusOr<char32_t> ReadChar();
  /// Behind the opening quote, to the closing one.
  absl::StatusOr<std::u32string> ReadQuoted();
  absl::StatusOr<Expr> ReadChoice(int depth);
  Expr OneOf(const CharSet& set);

  Entry& RuleOf(const std::string& name);
  /// INVALID_ARGUMENT where a name has no rule, or `root` has none.
  absl::StatusOr<Expr> Root(const std::string& root);

  virtual bool AtComment() const = 0;
  /// With its quantifiers.
  virtual absl::StatusOr<Expr> ReadItem(int depth) = 0;
  /// What may stand behind a sequence and means nothing here.
  virtual absl::Status SkipAlias() { return absl::OkStatus(); }

  std::u32string text_;
  size_t at_ = 0;
  GrammarBuilder builder_;

 private:
  absl::StatusOr<Expr> ReadSequence(int depth);
  void SkipToBar(int depth);

  std::map<std::string, Entry> rules_;
};

}  // namespace penstock::grammar
