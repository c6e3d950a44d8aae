// Where a text stands in a grammar: all ways to read it so far, as stacks that share what they have
// in common.
// Owns the stacks; shares the grammar. Must not know tokens.
// Threads: confined to one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/types/span.h"
#include "text/grammar/distinct.h"
#include "text/grammar/grammar.h"
#include "text/grammar/limits.h"

namespace penstock::grammar {

/// One way: inside a terminal, with what comes after its rule on a stack.
struct Config {
  int32_t pc = 0;     // of the terminal
  int32_t state = 0;  // of its automaton
  int32_t stack = 0;
  friend bool operator==(const Config&, const Config&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const Config& c) {
    return H::combine(std::move(h), c.pc, c.state, c.stack);
  }
};

struct ConfigSet {
  std::vector<Config> ways;
  bool finished = false;     // the text may end here
  Limit cut = Limit::kNone;  // else ways are missing: there was no room for them or no time
  bool dead() const { return ways.empty() && !finished; }
};

/// Stacks and the moves on them. Calls of one place of the grammar at one place of the text share a
/// stack, which then lies on each of those that they came from: however many ways there are to read a
/// text, their stacks grow with its length alone. Equal stacks are one. What a grammar asks for is
/// bounded all the same, in work, ways and stacks; what does not fit is left out and said to be.
class StackMachine {
 public:
  static constexpr size_t kMostWays = size_t{1} << 16;
  static constexpr size_t kMostNodes = size_t{1} << 20;
  static constexpr int64_t kMostWork = int64_t{3} << 20;  // some tens of milliseconds
  static constexpr int32_t kCall = -1;                    // the count of what is no loop
  struct Node {
    int32_t pc = -1;        // where a return goes on; a loop: to its next turn
    int32_t count = kCall;  // of a loop: turns before this one
    uint32_t first_parent = 0;
    uint32_t num_parents = 0;
  };
  static constexpr int32_t kBottom = 0;
  using Place = std::pair<int32_t, int32_t>;  // of the program, with a stack

  explicit StackMachine(std::shared_ptr<const Grammar> grammar);
  StackMachine(const StackMachine&) = delete;
  StackMachine& operator=(const StackMachine&) = delete;

  const Grammar& grammar() const { return *grammar_; }
  const ByteAutomaton& automaton(int32_t pc) const {
    return *grammar_->terminals[grammar_->program[pc].terminal];
  }
  const Node& node(int32_t stack) const { return nodes_[stack]; }
  /// Valid until the next move.
  absl::Span<const int32_t> parents(const Node& node) const {
    return absl::MakeConstSpan(parents_).subspan(node.first_parent, node.num_parents);
  }

  /// Begins a piece of work that somebody waits for.
  void Allow(int64_t work = kMostWork) {
    work_left_ = work;
    limit_ = Limit::kNone;
  }
  /// Counts work that was done elsewhere.
  void Spend(int64_t work) {
    work_left_ -= work;
    if (work_left_ < 0) Exhaust(Limit::kWork);
  }
  /// Since Allow something was left out: what follows from it is less than the grammar allows.
  bool exhausted() const { return limit_ != Limit::kNone; }
  Limit limit() const { return limit_; }  // the first that was passed
  int64_t work_left() const { return work_left_; }

  /// All that `places` can begin with.
  void Enter(absl::Span<const Place> places, ConfigSet& to);
  void Step(const ConfigSet& from, uint8_t byte, ConfigSet& to);
  /// Forgets stacks made since `num_nodes()` was that.
  size_t num_nodes() const { return nodes_.size(); }
  void Shrink(size_t num_nodes);
  /// Forgets stacks that nothing in `sets` stands on. Of each set, `num_nodes` is how many there were
  /// behind it; both are put in terms of what is left.
  void Collect(absl::Span<ConfigSet> sets, absl::Span<size_t> num_nodes);
  /// Gives back what the last moves needed and the next ones hardly will; or all (`wholly`).
  void Relax(bool wholly = false);
  size_t bytes() const;

 private:
  // Stacks that a move makes: who lies below them is known only at its end.
  struct Fresh {
    int32_t pc = -1;
    int32_t count = kCall;
    int32_t settled = kOpen;
    bool returned = false;  // a way is behind the call already
    std::vector<int32_t> parents;
  };
  static constexpr int32_t kOpen = -1, kSettling = -2;
  static constexpr int32_t kFirstFresh = int32_t{1} << 30;

  struct HashNode {
    const StackMachine* machine;
    size_t operator()(int32_t node) const;
  };
  struct EqualNodes {
    const StackMachine* machine;
    bool operator()(int32_t a, int32_t b) const;
  };

  void Exhaust(Limit limit) {
    if (limit_ == Limit::kNone) limit_ = limit;
  }
  void Begin();
  void Reach(const Config& config) { ways_.Add(config); }
  void Go(int32_t pc, int32_t stack, bool& finished);
  void End(ConfigSet& to);
  /// Puts what returns from `body` to `pc` on `parent`; the stack where it is new, else -1.
  int32_t Push(int32_t pc, int32_t count, int32_t body, int32_t parent);
  void EnterLoop(int32_t pc, int32_t count, int32_t parent);
  void GoOn(int32_t pc, int32_t count, int32_t parent);
  void Return(int32_t stack, bool& finished);
  int32_t Settle(int32_t stack);
  int32_t Keep(Fresh& fresh);

  std::shared_ptr<const Grammar> grammar_;
  std::vector<Node> nodes_;
  std::vector<int32_t> parents_;
  absl::flat_hash_set<int32_t, HashNode, EqualNodes> ids_;
  int64_t work_left_ = kMostWork;
  Limit limit_ = Limit::kNone;
  // Of the move in progress.
  std::vector<Place> work_;
  Distinct<Place> seen_;
  Distinct<Config> ways_;
  Distinct<Place> calls_;  // of fresh stacks, in their order: where to, and from where or the count
  Distinct<Place> links_;  // from fresh stacks to their parents
  std::vector<Fresh> fresh_;
  size_t num_fresh_ = 0;
  std::vector<int32_t> settling_;
};

class Matcher {
 public:
  /// Steps that Rollback can take back: drafts, of which there are fewer.
  static constexpr int32_t kMostTakenBack = 256;

  explicit Matcher(std::shared_ptr<const Grammar> grammar,
                   std::shared_ptr<WayMemory> memory = std::make_shared<WayMemory>());
  ~Matcher();
  Matcher(const Matcher&) = delete;
  Matcher& operator=(const Matcher&) = delete;

  /// Goes on by `bytes`; false, and nothing changes, where the grammar does not allow them. One
  /// call is one step of Rollback.
  bool Accept(std::string_view bytes);
  /// Of at most kMostTakenBack steps.
  void Rollback(int32_t num_steps);
  /// Where the grammar's reasoning has taken `most` steps, only its end marker may follow.
  void LimitReasoning(int32_t most);
  int32_t num_steps() const { return num_forgotten_ + static_cast<int32_t>(history_.size()) - 1; }
  /// Whether the text may end here.
  bool finished() const { return state().finished; }
  /// Whether it can only end here.
  bool ended() const { return state().ways.empty() && !too_ambiguous(); }
  /// There are more ways to read the text than are followed: nothing can be said of what comes.
  bool too_ambiguous() const { return state().cut != Limit::kNone; }

  const ConfigSet& state() const { return history_.back(); }
  StackMachine& machine() { return machine_; }
  /// Of all that is kept between calls.
  size_t bytes() const;

 private:
  void Keep(ConfigSet now);
  /// Steps that nobody takes back any more, and their stacks.
  void Forget();

  StackMachine machine_;
  std::vector<ConfigSet> history_;  // after each step, the last ones; the first: at the start
  std::vector<size_t> num_nodes_;   // stacks that there were after each
  int32_t num_forgotten_ = 0;       // steps before those
  size_t way_bytes_ = 0;            // of all sets in history_
  size_t collect_at_ = 0;           // stacks
  int32_t reasoning_begin_ = -1;    // the step that the reasoning begins with; -1: none so far
  const std::shared_ptr<WayMemory> memory_;
  int64_t told_ = 0;  // bytes that memory_ knows of
};

}  // namespace penstock::grammar
