// Which tokens a grammar allows where a text stands in it, as bits.
// Owns what it walks with. Must not know engines or requests.
// Threads: a MaskWriter is confined to one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "text/grammar/mask_memo.h"
#include "text/grammar/matcher.h"
#include "text/grammar/token_masks.h"

namespace penstock::grammar {

/// Fills `key`: all that a mask depends on where a grammar stands, for tokens of less than `reach`
/// bytes. False: too much to be worth it.
bool MakeStateKey(const StackMachine& machine, const ConfigSet& at, int32_t reach,
                  MaskMemo::Key& key);

class MaskWriter {
 public:
  explicit MaskWriter(std::shared_ptr<TokenMasks> masks) : masks_(std::move(masks)) {}

  /// Sets the bits of the tokens that `matcher` would accept; clears all others. The limit on ways to
  /// read the text that was passed, where one was: then all bits are clear.
  Limit Write(Matcher& matcher, absl::Span<uint32_t> words);

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
  std::vector<Config> survivors_;
  std::deque<Walked> walked_;
  absl::flat_hash_map<std::vector<Config>, Walked*> known_;
  absl::flat_hash_map<std::vector<Config>, Walked*> behind_ways_;  // before what follows them
};

}  // namespace penstock::grammar
