// The tokens of a template with a cursor, and the names it uses.
// Owns both. Must not know grammar.
// Threads: confined to one parse.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "text/jinja/ast.h"

namespace penstock::jinja {

class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[next_]; }
  const Token& ahead() const { return tokens_[std::min(next_ + 1, tokens_.size() - 1)]; }
  Token Take() {
    Token token = tokens_[next_];
    if (next_ + 1 < tokens_.size()) ++next_;
    return token;
  }
  static bool Is(const Token& token, TokenKind kind, std::string_view text) {
    return token.kind == kind && token.text == text;
  }
  bool AtOperator(std::string_view text) const { return Is(current(), TokenKind::kOperator, text); }
  bool AtName(std::string_view text) const { return Is(current(), TokenKind::kName, text); }
  bool SkipOperator(std::string_view text) {
    if (!AtOperator(text)) return false;
    Take();
    return true;
  }
  bool SkipName(std::string_view text) {
    if (!AtName(text)) return false;
    Take();
    return true;
  }

  Symbol Intern(const std::string& name) {
    const auto [it, added] = symbols_.try_emplace(name, static_cast<Symbol>(names_.size()));
    if (added) names_.push_back(name);
    return it->second;
  }
  std::vector<std::string> TakeNames() { return std::move(names_); }

 private:
  std::vector<Token> tokens_;
  size_t next_ = 0;
  std::vector<std::string> names_;
  absl::flat_hash_map<std::string, Symbol> symbols_;
};

}  // namespace penstock::jinja
