// Where a text stands in a grammar: all ways to read it so far, as stacks that share what they have
// in common.
// Owns the stacks; shares the grammar. Must not know tokens.
// Threads: confined to one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "text/grammar/grammar.h"

namespace penstock::grammar {

/// One way: inside a terminal, with what comes after its rule on a stack.
struct Config {
  int32_t pc = 0;     // of the terminal
  int32_t state = 0;  // of its automaton
  int32_t stack = 0;
  friend bool operator==(const Config&, const Config&) = default;
};

struct ConfigSet {
  std::vector<Config> ways;
  bool finished = false;  // the text may end here
  bool dead() const { return ways.empty() && !finished; }
};

/// Stacks and the moves on them. Equal stacks are one. An ambiguous grammar may have ways and stacks
/// beyond all bounds: those that there is no room for are left out, so that less is allowed than the
/// grammar does, and never more.
class StackMachine {
 public:
  static constexpr size_t kMostWays = 1024;
  static constexpr size_t kMostNodes = size_t{1} << 20;
  static constexpr int32_t kCall = -1;  // the count of what is no loop
  struct Node {
    int32_t pc = -1;        // where a return goes on; a loop: to its next turn
    int32_t count = kCall;  // of a loop: turns before this one
    int32_t parent = -1;
    friend bool operator==(const Node&, const Node&) = default;
    template <typename H>
    friend H AbslHashValue(H h, const Node& n) {
      return H::combine(std::move(h), n.pc, n.count, n.parent);
    }
  };
  static constexpr int32_t kBottom = 0;

  explicit StackMachine(std::shared_ptr<const Grammar> grammar);
  const Grammar& grammar() const { return *grammar_; }
  const ByteAutomaton& automaton(int32_t pc) const {
    return *grammar_->terminals[grammar_->program[pc].terminal];
  }
  const Node& node(int32_t stack) const { return nodes_[stack]; }

  /// Adds all that `pc` with `stack` can begin with.
  void Enter(int32_t pc, int32_t stack, ConfigSet& to);
  void Step(const ConfigSet& from, uint8_t byte, ConfigSet& to);
  /// Forgets stacks made since `num_nodes()` was that.
  size_t num_nodes() const { return nodes_.size(); }
  void Shrink(size_t num_nodes);
  size_t bytes() const { return nodes_.capacity() * 40; }

 private:
  /// -1: there is no room.
  int32_t Push(Node node);
  void EnterLoop(int32_t pc, int32_t count, int32_t parent);

  std::shared_ptr<const Grammar> grammar_;
  std::vector<Node> nodes_;
  absl::flat_hash_map<Node, int32_t> ids_;
  // Of Enter in progress.
  std::vector<std::pair<int32_t, int32_t>> work_;
  std::vector<std::pair<int32_t, int32_t>> seen_;
  std::vector<int32_t> entered_;
};

class Matcher {
 public:
  explicit Matcher(std::shared_ptr<const Grammar> grammar);

  /// Goes on by `bytes`; false, and nothing changes, where the grammar does not allow them. One
  /// call is one step of Rollback.
  bool Accept(std::string_view bytes);
  void Rollback(int32_t num_steps);
  /// Where the grammar's reasoning has taken `most` steps, only its end marker may follow.
  void LimitReasoning(int32_t most);
  int32_t num_steps() const { return static_cast<int32_t>(history_.size()) - 1; }
  /// Whether the text may end here.
  bool finished() const { return state().finished; }
  /// Whether it can only end here.
  bool ended() const { return state().ways.empty(); }

  const ConfigSet& state() const { return history_.back(); }
  StackMachine& machine() { return machine_; }

 private:
  StackMachine machine_;
  std::vector<ConfigSet> history_;  // after each step; the first: at the start
};

}  // namespace penstock::grammar
