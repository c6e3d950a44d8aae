// A grammar as a program of a pushdown automaton, and the builder that makes one of rules.
// Owns instructions and byte automata. Must not know where rules come from, or tokens.
// Threads: a Grammar is immutable; a builder is confined to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "text/grammar/byte_automaton.h"

namespace penstock::grammar {

/// One step of the program. `next` and `targets` are indices of instructions.
struct Instruction {
  enum class Kind : uint8_t {
    kTerminal,  // bytes of an automaton, then `next`
    kSplit,     // any of `targets`
    kCall,      // `body`, then `next`
    kReturn,
    kLoop,  // `body`, `min` to `max` times, then `next`; counts on the stack
  };
  Kind kind = Kind::kReturn;
  int32_t terminal = -1;
  int32_t next = -1;
  int32_t body = -1;
  int32_t min = 0, max = -1;  // max < 0: any number
  std::vector<int32_t> targets;
  // kLoop: the body is one character of a JSON string, and `next` its closing quote. kTerminal: the
  // loop of whose body it is the beginning.
  int32_t text_loop = -1;
  bool endless = false;  // kTerminal: anywhere in it the whole text may end
};

struct Grammar {
  std::vector<Instruction> program;
  std::vector<std::shared_ptr<const ByteAutomaton>> terminals;
  int32_t start = 0;
  // Terminals: of a text that goes before all else, and, in the same states, of no more than its end
  // marker; -1: none.
  int32_t reasoning = -1, closing = -1;
  uint64_t id = 0;  // of no other grammar that masks are kept for; 0: none are
  size_t bytes() const;
};

/// Copies the program of `from` behind that of `to`; what it starts with there. Its returns stay
/// returns, to whoever called it.
int32_t AppendProgram(const Grammar& from, Grammar& to);

class GrammarBuilder {
 public:
  using Expr = int32_t;  // an expression; may be used any number of times
  using Rule = int32_t;

  static constexpr Expr kEmpty = 0;    // the empty text
  static constexpr Expr kNothing = 1;  // no text at all

  GrammarBuilder();
  Expr Literal(std::string_view text);
  Expr Terminal(ByteAutomaton automaton);
  /// Anywhere in it the whole text may end; nothing goes behind it.
  Expr EndlessTerminal(ByteAutomaton automaton);
  Expr Sequence(std::vector<Expr> parts);
  Expr Choice(std::vector<Expr> options);
  /// max < 0: any number.
  Expr Repeat(Expr body, int64_t min, int64_t max);
  Expr Optional(Expr body) { return Repeat(body, 0, 1); }
  /// A JSON string with its quotes of `min` to `max` characters.
  Expr JsonText(int64_t min, int64_t max);
  /// A grammar of its own, which matches no empty text.
  Expr Embed(std::shared_ptr<const Grammar> grammar);
  /// A rule to be defined later, so that rules can refer to each other.
  Rule NewRule(std::string name);
  /// A body that begins with the rule itself in some alternatives is turned into a loop of what
  /// they go on with: the language stays the same.
  void Define(Rule rule, Expr body);
  Expr Refer(Rule rule);

  /// Beyond this Build refuses; callers may stop before.
  static constexpr size_t kMaxExpressions = 400'000;
  size_t num_expressions() const { return exprs_.size(); }
  size_t automata_bytes() const { return automata_bytes_; }
  bool too_large() const { return too_large_; }

  /// What cannot produce any text is dropped. INVALID_ARGUMENT where nothing is left of `root`, or
  /// a rule calls itself before any byte.
  absl::StatusOr<Grammar> Build(Expr root);
  /// Whether any text matches; of all that is defined so far, undefined rules counting as `yes`.
  bool MatchesAnything(Expr root, bool undefined);

 private:
  enum class Kind : uint8_t {
    kEmpty,
    kNothing,
    kTerminal,
    kSequence,
    kChoice,
    kRepeat,
    kText,
    kGrammar,
    kRule
  };
  struct Node {
    Kind kind = Kind::kEmpty;
    int32_t index = -1;  // terminal, grammar, rule
    int32_t min = 0, max = -1;
    std::vector<Expr> parts;
    bool endless = false;  // kTerminal
  };
  struct RuleEntry {
    std::string name;
    Expr body = -1;
    int32_t entry = -1;  // of the program
  };

  Expr Add(Node node);
  void SplitOwnFront(Rule rule, Expr body, std::vector<Expr>* bases, std::vector<Expr>* tails);
  int32_t Emit(Expr expr, int32_t next, Grammar& grammar);
  int32_t EmitRepeat(const Node& node, int32_t next, Grammar& grammar);
  int32_t EmitText(const Node& node, int32_t next, Grammar& grammar);
  int32_t AddInstruction(Grammar& grammar, Instruction instruction);
  int32_t UseTerminal(int32_t index, Grammar& grammar);
  /// Of expressions: those that `known` says to be so, choices, repeats and rules of which a part is,
  /// sequences of which all parts are.
  template <typename Known>
  std::vector<uint8_t> LeastFixedPoint(const Known& known) const;
  void FindProductive(bool undefined);
  void FindNullable();
  absl::Status CheckLeftRecursion() const;

  std::vector<Node> exprs_;
  std::vector<RuleEntry> rules_;
  std::vector<std::pair<std::shared_ptr<const Grammar>, int32_t>> embedded_;  // and their entries
  std::vector<std::shared_ptr<const ByteAutomaton>> automata_;
  absl::flat_hash_map<ByteAutomaton::Digest, int32_t> by_digest_;
  absl::flat_hash_map<std::string, Expr> literals_;
  std::vector<uint8_t> productive_, nullable_;  // [expressions]
  std::vector<int32_t> used_terminals_;         // by automaton: its index in the grammar; -1: none
  std::vector<Rule> pending_;                   // rules that are called and not yet emitted
  size_t automata_bytes_ = 0;
  bool too_large_ = false;  // an automaton
  int32_t return_ = -1;
  Expr text_char_ = -1, quote_ = -1;
};

}  // namespace penstock::grammar
