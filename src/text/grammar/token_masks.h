// What the tokens of a vocabulary do from states of automata, as bits and trees: masks are made of
// these.
// Owns the vocabulary's tree and what was learned about states of automata (bounded). Must not know
// engines or requests.
// Threads: thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "text/grammar/grammar.h"
#include "text/grammar/mask_memo.h"
#include "text/grammar/token_trie.h"

namespace penstock::grammar {

/// What tokens do from one state of an automaton, whatever comes after it in the grammar.
struct StateMask {
  // Tokens that stay inside: bits, or, where they are few, ids.
  std::vector<uint32_t> words;
  std::vector<TokenId> ids;
  // Tokens that go on behind the automaton's end, by what they go on with. Of those that are shared
  // with another state only the ones in `closes` count; empty: all.
  std::shared_ptr<const TokenTrie> rest;
  std::vector<uint32_t> closes;
  size_t bytes() const {
    return (words.capacity() + ids.capacity() + closes.capacity()) * 4 + sizeof(*this);
  }
};

/// A state that goes on by fewer bytes is walked whenever it is met.
inline constexpr int32_t kManyBytes = 6;

class TokenMasks {
 public:
  static constexpr size_t kDefaultCacheBytes = 64u << 20;  // of states; half as much of whole masks

  /// `pieces`: the bytes of each token by id; empty: never allowed (special tokens).
  explicit TokenMasks(std::vector<std::string> pieces, size_t cache_bytes = kDefaultCacheBytes);

  int32_t vocab_size() const { return static_cast<int32_t>(pieces_.size()); }
  size_t num_words() const { return (pieces_.size() + 31) / 32; }
  const std::string& piece(TokenId id) const { return pieces_[id]; }
  const TokenTrie& trie() const { return trie_; }
  std::shared_ptr<const StateMask> Of(const ByteAutomaton& automaton, int32_t state);
  /// Whether Of has it at hand.
  bool Has(const ByteAutomaton& automaton, int32_t state) const;
  /// Computes what `grammar` will ask for, within bounds, so that no engine waits for it.
  void Prepare(const Grammar& grammar);

  /// Tokens by the number of characters of a JSON string that they are at least a part of.
  struct TextMasks {
    std::shared_ptr<const StateMask> free;
    std::vector<std::vector<uint32_t>> within;  // [n]: of at most n characters
    std::vector<uint8_t> num_before;            // [tokens]: characters before the closing quote
    std::vector<TokenId> closing;               // tokens that end with it
  };
  const TextMasks& text() const { return text_; }
  MaskMemo& memo() { return memo_; }
  size_t cached_bytes() const;

 private:
  using Key = std::pair<ByteAutomaton::Digest, int32_t>;

  std::shared_ptr<const StateMask> Compute(const ByteAutomaton& automaton, int32_t state) const;
  /// From the mask of the automaton's free state: only what differs is walked.
  std::shared_ptr<const StateMask> Differ(const ByteAutomaton& automaton, int32_t state) const;
  void MakeTextMasks();

  std::vector<std::string> pieces_;
  TokenTrie trie_;
  TextMasks text_;
  const size_t cache_bytes_;
  mutable std::mutex mutex_;
  absl::flat_hash_map<Key, std::shared_ptr<const StateMask>> cache_;
  size_t cached_ = 0;
  MaskMemo memo_;
};

}  // namespace penstock::grammar
