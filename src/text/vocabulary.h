// Tokens and their ids, both ways.
// Owns the token strings. Must not know how text becomes tokens.
// Threads: immutable after Build.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "penstock/types.h"

namespace penstock {

class Vocabulary {
 public:
  /// The greatest id in a vocabulary of so many tokens: few have holes, and memory follows it.
  static TokenId MaxId(size_t num_tokens);
  Vocabulary() = default;
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  /// INVALID_ARGUMENT where an id is negative or above 16 million, or stands for two tokens.
  static absl::StatusOr<Vocabulary> Build(std::vector<std::pair<std::string, TokenId>> entries);

  std::optional<TokenId> Find(std::string_view token) const {
    const auto it = ids_.find(token);
    return it == ids_.end() ? std::nullopt : std::optional<TokenId>(it->second);
  }
  /// nullptr where no token has that id.
  const std::string* Token(TokenId id) const {
    if (id < 0 || static_cast<size_t>(id) >= tokens_.size() || !present_[id]) return nullptr;
    return &tokens_[id];
  }
  /// One more than the largest id.
  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }
  int32_t num_tokens() const { return static_cast<int32_t>(ids_.size()); }

 private:
  std::vector<std::string> tokens_;                     // [size]
  std::vector<bool> present_;                           // [size]
  absl::flat_hash_map<std::string_view, TokenId> ids_;  // keys point into tokens_
};

}  // namespace penstock
