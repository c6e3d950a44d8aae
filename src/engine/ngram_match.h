// Where the end of a token sequence has stood before: in its own past, or in what the same model
// has lately answered to others.
// Owns its tables; constant work per token, memory bounded by the sequence or by the capacity.
// Must not know requests, steps or blocks.
// Threads: confined to the engine thread.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/siphash.h"
#include "penstock/types.h"

namespace penstock {

inline constexpr int32_t kLongestMatch = 32;  // tokens that are compared at most

/// An earlier place whose `length` tokens equal the newest ones; the token at `next` is what
/// followed there.
struct NgramMatch {
  int64_t next = 0;
  int32_t length = 0;  // 0: none; kLongestMatch: so many or more
};

/// The past of one sequence.
class NgramIndex {
 public:
  explicit NgramIndex(int32_t min_match) : min_match_(min_match) {}

  /// Takes in the token at `tokens[num_seen()]`.
  void Advance(absl::Span<const TokenId> tokens);
  int64_t num_seen() const { return num_seen_; }
  const NgramMatch& match() const { return match_; }
  /// The token `ahead` places after the newest one, if all goes on as it did at the match.
  TokenId Predict(absl::Span<const TokenId> tokens, int32_t ahead) const;

 private:
  void Rebuild(absl::Span<const TokenId> tokens);
  size_t Place(const TokenId* last) const;

  int32_t min_match_;
  int64_t num_seen_ = 0;
  NgramMatch match_;
  std::vector<int32_t> table_;  // power of two: by hash of an n-gram, the index after it
};

/// The last outputs of a model, each under the root of its prefix hashes: nothing is found across
/// roots, so that no salt learns of another.
class OutputHistory {
 public:
  /// `capacity` tokens are kept, a power of two; memory is taken with the first output.
  OutputHistory(int32_t min_match, int64_t capacity) : min_match_(min_match), capacity_(capacity) {}

  void Append(const Hash128& root, absl::Span<const TokenId> tokens);
  /// Follows a sequence by its newest token `tokens.back()`.
  void Follow(const Hash128& root, absl::Span<const TokenId> tokens, NgramMatch& match) const;
  /// The token `ahead` places after the newest one; -1 where the history ends or is of another root.
  TokenId Predict(const Hash128& root, const NgramMatch& match, int32_t ahead) const;

 private:
  bool Holds(const Hash128& root, int64_t position) const;
  TokenId At(int64_t position) const { return tokens_[position & (capacity_ - 1)]; }
  size_t Place(const Hash128& root, const TokenId* last) const;

  int32_t min_match_;
  int64_t capacity_;
  int64_t end_ = 0;              // tokens appended so far
  std::vector<TokenId> tokens_;  // [capacity], a ring
  std::vector<Hash128> roots_;   // [capacity], of each token
  std::vector<int64_t> table_;  // [2 * capacity]: by hash of root and n-gram, the position after it
};

}  // namespace penstock
