// Which tokens of a vocabulary a grammar allows next, as bits.
// Owns the vocabulary's tree and what was learned about states of automata (bounded). Must not know
// engines or requests.
// Threads: TokenMasks is thread-safe; a MaskWriter is confined to one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "text/grammar/mask_memo.h"
#include "text/grammar/matcher.h"
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
  size_t bytes() const { return (words.size() + ids.size() + closes.size()) * 4 + sizeof(*this); }
};

class TokenMasks {
 public:
  /// `pieces`: the bytes of each token by id; empty: never allowed (special tokens).
  explicit TokenMasks(std::vector<std::string> pieces, size_t cache_bytes = 64u << 20);

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

/// Fills `key`: all that a mask depends on where a grammar stands, for tokens of less than `reach`
/// bytes. False: too much to be worth it.
bool MakeStateKey(const StackMachine& machine, const ConfigSet& at, int32_t reach,
                  MaskMemo::Key& key);

class MaskWriter {
 public:
  explicit MaskWriter(std::shared_ptr<TokenMasks> masks) : masks_(std::move(masks)) {}

  /// Sets the bits of the tokens that `matcher` would accept; clears all others. False, and all are
  /// clear: there are more ways to read the text than can be followed in reasonable time.
  bool Write(Matcher& matcher, absl::Span<uint32_t> words);

 private:
  /// Where a walk has been. What a byte leads to depends on the states that it leads to alone, and
  /// most letters are all one there.
  struct Walked {
    static constexpr int16_t kUnknown = -1, kNowhere = -2;
    Walked(const StackMachine& machine, ConfigSet set_in);
    struct Next {
      std::vector<int32_t> states;
      Walked* to = nullptr;
    };
    ConfigSet set;
    std::vector<std::pair<const ByteAutomaton*, int32_t>> heads;  // each once, with its state
    std::vector<Next> next;
    std::array<int16_t, 256> by_byte;  // of `next`
  };

  void Compute(StackMachine& machine, const ConfigSet& at);
  Walked& Known(StackMachine& machine, const ConfigSet& set);
  /// Null: no way goes on by `byte`.
  Walked* Walk(StackMachine& machine, Walked& from, uint8_t byte);
  /// Of ways in the same state of the same automaton, wherever that is in the grammar.
  void WriteState(StackMachine& machine, absl::Span<const Config> ways);
  void WriteText(StackMachine& machine, const Config& way);
  void WriteFew(StackMachine& machine, const ConfigSet& few);
  void WriteRest(StackMachine& machine, const StateMask& mask,
                 absl::Span<const StackMachine::Place> behind, int64_t min_chars,
                 int64_t max_chars);
  /// Walks what lies in [begin, end) of a tree from all ways of a set at once.
  template <typename Take>
  void WalkWays(StackMachine& machine, const TokenTrie& trie, uint32_t begin, uint32_t end,
                const ConfigSet& from, const Take& take);
  /// The same of many ways, or much to walk: what was walked before is known.
  template <typename Take>
  void WalkSet(StackMachine& machine, const TokenTrie& trie, uint32_t begin, uint32_t end,
               Walked& from, const Take& take);
  /// From one way, in its automaton alone as long as that goes.
  template <typename Take>
  void WalkOne(StackMachine& machine, const TokenTrie& trie, uint32_t begin, uint32_t end,
               const Config& from, const Take& take);

  std::shared_ptr<TokenMasks> masks_;
  absl::Span<uint32_t> out_;
  MaskMemo::Key key_;
  // Of the mask in progress.
  std::vector<Config> wide_;
  ConfigSet few_;
  std::vector<StackMachine::Place> behind_;
  std::vector<int32_t> states_;
  std::deque<Walked> walked_;
  absl::flat_hash_map<std::vector<Config>, Walked*> known_;
};

}  // namespace penstock::grammar
