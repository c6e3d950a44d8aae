#include "text/grammar/grammar.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace penstock::grammar {
namespace {

constexpr int32_t kMaxUnrolled = 4;
constexpr size_t kMaxProgram = 2'000'000;

/// One character of a JSON string: the language of which JsonText counts.
ByteAutomaton TextCharacter() {
  // What lies between the quotes of a string of one character.
  const ByteAutomaton quoted =
      ByteAutomaton::Of(CharAutomaton::Length(1, 1), TextEncoding::kJsonString);
  const int32_t begin = quoted.Next(0, '"');
  std::vector<std::array<int32_t, 256>> rows;
  std::vector<uint8_t> accepts;
  std::vector<int32_t> names(quoted.num_states(), -1), order{begin};
  names[begin] = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    auto& row = rows.emplace_back();
    row.fill(ByteAutomaton::kDead);
    const int32_t quote = quoted.Next(order[i], '"');
    const bool last = quote != ByteAutomaton::kDead && quoted.accepts(quote);
    accepts.push_back(last ? 1 : 0);
    if (last) continue;
    for (int b = 0; b < 256; ++b) {
      const int32_t to = quoted.Next(order[i], static_cast<uint8_t>(b));
      if (to == ByteAutomaton::kDead) continue;
      if (names[to] < 0) {
        names[to] = static_cast<int32_t>(order.size());
        order.push_back(to);
      }
      rows[i][b] = names[to];
    }
  }
  return {rows, std::move(accepts)};
}

}  // namespace

size_t Grammar::bytes() const {
  size_t sum = sizeof(*this) + program.size() * sizeof(Instruction);
  for (const Instruction& i : program) sum += i.targets.size() * sizeof(int32_t);
  for (const auto& t : terminals) sum += t->bytes();
  return sum;
}

int32_t AppendProgram(const Grammar& from, Grammar& to) {
  const auto program = static_cast<int32_t>(to.program.size());
  const auto terminals = static_cast<int32_t>(to.terminals.size());
  const auto move = [](int32_t& index, int32_t by) {
    if (index >= 0) index += by;
  };
  to.terminals.insert(to.terminals.end(), from.terminals.begin(), from.terminals.end());
  for (Instruction i : from.program) {
    move(i.terminal, terminals);
    for (int32_t* pc : {&i.next, &i.body, &i.text_loop}) move(*pc, program);
    for (int32_t& target : i.targets) move(target, program);
    to.program.push_back(std::move(i));
  }
  return from.start + program;
}

GrammarBuilder::GrammarBuilder() {
  Add({Kind::kEmpty, -1, 0, -1, {}});
  Add({Kind::kNothing, -1, 0, -1, {}});
}

GrammarBuilder::Expr GrammarBuilder::Add(Node node) {
  exprs_.push_back(std::move(node));
  return static_cast<Expr>(exprs_.size()) - 1;
}

GrammarBuilder::Expr GrammarBuilder::Literal(std::string_view text) {
  if (text.empty()) return kEmpty;
  const auto it = literals_.find(std::string(text));
  if (it != literals_.end()) return it->second;
  const Expr made = Terminal(ByteAutomaton::Literal(text));
  literals_.emplace(text, made);
  return made;
}

GrammarBuilder::Expr GrammarBuilder::Terminal(ByteAutomaton automaton) {
  too_large_ = too_large_ || automaton.too_large();
  const auto [it, added] =
      by_digest_.try_emplace(automaton.digest(), static_cast<int32_t>(automata_.size()));
  if (added) {
    automata_bytes_ += automaton.bytes();
    automata_.push_back(std::make_shared<const ByteAutomaton>(std::move(automaton)));
  }
  return Add({Kind::kTerminal, it->second, 0, -1, {}});
}

GrammarBuilder::Expr GrammarBuilder::EndlessTerminal(ByteAutomaton automaton) {
  const Expr made = Terminal(std::move(automaton));
  exprs_[made].endless = true;
  return made;
}

GrammarBuilder::Expr GrammarBuilder::Sequence(std::vector<Expr> parts) {
  std::erase(parts, kEmpty);
  if (parts.empty()) return kEmpty;
  if (std::find(parts.begin(), parts.end(), kNothing) != parts.end()) return kNothing;
  return parts.size() == 1 ? parts[0] : Add({Kind::kSequence, -1, 0, -1, std::move(parts)});
}

GrammarBuilder::Expr GrammarBuilder::Choice(std::vector<Expr> options) {
  std::erase(options, kNothing);
  if (options.empty()) return kNothing;
  return options.size() == 1 ? options[0] : Add({Kind::kChoice, -1, 0, -1, std::move(options)});
}

GrammarBuilder::Expr GrammarBuilder::Repeat(Expr body, int64_t min, int64_t max) {
  constexpr int64_t kMost = 1'000'000'000;
  if (max >= 0 && max < min) return kNothing;
  if (body == kEmpty || max == 0) return kEmpty;
  if (body == kNothing) return min == 0 ? kEmpty : kNothing;
  if (min == 1 && max == 1) return body;
  return Add({Kind::kRepeat,
              -1,
              static_cast<int32_t>(std::min(min, kMost)),
              static_cast<int32_t>(std::min(max, kMost)),
              {body}});
}

GrammarBuilder::Expr GrammarBuilder::JsonText(int64_t min, int64_t max) {
  if (max >= 0 && max < min) return kNothing;
  if (max < 0 && min <= 1)  // few states that others share
    return Terminal(ByteAutomaton::Of(CharAutomaton::Length(min, max), TextEncoding::kJsonString));
  constexpr int64_t kMost = 1'000'000'000;
  if (text_char_ < 0) {
    text_char_ = Terminal(TextCharacter());
    quote_ = Literal("\"");
  }
  return Add({Kind::kText,
              -1,
              static_cast<int32_t>(std::min(min, kMost)),
              static_cast<int32_t>(std::min(max, kMost)),
              {}});
}

GrammarBuilder::Expr GrammarBuilder::Embed(std::shared_ptr<const Grammar> grammar) {
  embedded_.emplace_back(std::move(grammar), -1);
  return Add({Kind::kGrammar, static_cast<int32_t>(embedded_.size()) - 1, 0, -1, {}});
}

GrammarBuilder::Rule GrammarBuilder::NewRule(std::string name) {
  rules_.push_back({std::move(name), -1, -1});
  return static_cast<Rule>(rules_.size()) - 1;
}

void GrammarBuilder::Define(Rule rule, Expr body) {
  std::vector<Expr> bases, tails;
  SplitOwnFront(rule, body, &bases, &tails);
  if (!tails.empty())
    body = Sequence({Choice(std::move(bases)), Repeat(Choice(std::move(tails)), 0, -1)});
  rules_[rule].body = body;
}

void GrammarBuilder::SplitOwnFront(Rule rule, Expr body, std::vector<Expr>* bases,
                                   std::vector<Expr>* tails) {
  if (exprs_[body].kind == Kind::kChoice) {
    for (const Expr option : std::vector<Expr>(exprs_[body].parts))
      SplitOwnFront(rule, option, bases, tails);
    return;
  }
  const auto is_own = [&](Expr e) {
    return exprs_[e].kind == Kind::kRule && exprs_[e].index == rule;
  };
  if (is_own(body)) {
    tails->push_back(kEmpty);
  } else if (exprs_[body].kind == Kind::kSequence && is_own(exprs_[body].parts[0])) {
    const std::vector<Expr>& parts = exprs_[body].parts;
    tails->push_back(Sequence({parts.begin() + 1, parts.end()}));
  } else {
    bases->push_back(body);
  }
}

GrammarBuilder::Expr GrammarBuilder::Refer(Rule rule) {
  return Add({Kind::kRule, rule, 0, -1, {}});
}

template <typename Known>
std::vector<uint8_t> GrammarBuilder::LeastFixedPoint(const Known& known) const {
  // What each expression is a part of, as lists that begin at `first`.
  std::vector<int32_t> first(exprs_.size() + 1, 0);
  const auto each_part = [this](size_t i, const auto& take) {
    const Node& n = exprs_[i];
    if (n.kind == Kind::kRule) {
      if (rules_[n.index].body >= 0) take(rules_[n.index].body);
    } else {
      for (const Expr part : n.parts) take(part);
    }
  };
  for (size_t i = 0; i < exprs_.size(); ++i) each_part(i, [&](Expr part) { ++first[part + 1]; });
  for (size_t i = 0; i < exprs_.size(); ++i) first[i + 1] += first[i];
  std::vector<int32_t> next(first.begin(), first.end() - 1), wholes(first.back());
  std::vector<size_t> missing(
      exprs_.size());  // parts of a sequence that are not yet known to be so
  std::vector<Expr> work;
  std::vector<uint8_t> is(exprs_.size(), 0);
  const auto mark = [&](Expr e) {
    if (std::exchange(is[e], 1) == 0) work.push_back(e);
  };
  for (size_t i = 0; i < exprs_.size(); ++i) {
    each_part(i, [&](Expr part) { wholes[next[part]++] = static_cast<int32_t>(i); });
    missing[i] = exprs_[i].parts.size();
  }
  for (size_t i = 0; i < exprs_.size(); ++i) {
    if (known(exprs_[i])) mark(static_cast<Expr>(i));
  }
  while (!work.empty()) {
    const Expr part = work.back();
    work.pop_back();
    for (int32_t at = first[part]; at < first[part + 1]; ++at) {
      const Expr whole = wholes[at];
      if (exprs_[whole].kind != Kind::kSequence || --missing[whole] == 0) mark(whole);
    }
  }
  return is;
}

void GrammarBuilder::FindProductive(bool undefined) {
  productive_ = LeastFixedPoint([&](const Node& n) {
    switch (n.kind) {
      case Kind::kEmpty:
      case Kind::kText:
      case Kind::kGrammar:
        return true;
      case Kind::kTerminal:
        return automata_[n.index]->accepts(0) || automata_[n.index]->goes_on(0);
      case Kind::kRepeat:
        return n.min == 0;
      case Kind::kRule:
        return undefined && rules_[n.index].body < 0;
      default:
        return false;
    }
  });
}

void GrammarBuilder::FindNullable() {
  nullable_ = LeastFixedPoint([&](const Node& n) {
    switch (n.kind) {
      case Kind::kEmpty:
        return true;
      case Kind::kTerminal:
        return automata_[n.index]->accepts(0);
      case Kind::kRepeat:
        return n.min == 0;
      default:
        return false;
    }
  });
  // An empty text of what cannot be built is none.
  for (size_t i = 0; i < nullable_.size(); ++i) nullable_[i] &= productive_[i];
}

absl::Status GrammarBuilder::CheckLeftRecursion() const {
  // Colours of a walk over what can come first.
  std::vector<uint8_t> colour(exprs_.size(), 0);
  struct Visit {
    Expr expr;
    size_t part;
  };
  for (size_t root = 0; root < exprs_.size(); ++root) {
    if (colour[root] != 0 || productive_[root] == 0) continue;
    std::vector<Visit> stack{{static_cast<Expr>(root), 0}};
    colour[root] = 1;
    while (!stack.empty()) {
      Visit& top = stack.back();
      const Node& n = exprs_[top.expr];
      Expr child = -1;
      if (n.kind == Kind::kRule) {
        if (top.part++ == 0) child = rules_[n.index].body;
      } else if (top.part < n.parts.size() && (n.kind != Kind::kSequence || top.part == 0 ||
                                               nullable_[n.parts[top.part - 1]] != 0)) {
        child = n.parts[top.part++];
      }
      if (child < 0) {
        colour[top.expr] = 2;
        stack.pop_back();
      } else if (productive_[child] != 0 && colour[child] == 0) {
        colour[child] = 1;
        stack.push_back({child, 0});
      } else if (productive_[child] != 0 && colour[child] == 1) {
        std::string name = "a rule";
        for (const Visit& v : stack) {
          if (exprs_[v.expr].kind == Kind::kRule)
            name = absl::StrCat("the rule \"", rules_[exprs_[v.expr].index].name, "\"");
        }
        return absl::InvalidArgumentError(
            absl::StrCat(name, " calls itself before any text (left recursion)"));
      }
    }
  }
  return absl::OkStatus();
}

bool GrammarBuilder::MatchesAnything(Expr root, bool undefined) {
  FindProductive(undefined);
  return productive_[root] != 0;
}

absl::StatusOr<Grammar> GrammarBuilder::Build(Expr root) {
  if (too_large_) return absl::ResourceExhaustedError("an automaton is too large");
  if (exprs_.size() > kMaxExpressions)
    return absl::ResourceExhaustedError("the grammar has too many rules");
  for (const RuleEntry& rule : rules_) {
    if (rule.body < 0)
      return absl::InvalidArgumentError(
          absl::StrCat("the rule \"", rule.name, "\" is not defined"));
  }
  FindProductive(false);
  if (productive_[root] == 0) return absl::InvalidArgumentError("nothing can match the grammar");
  FindNullable();
  RETURN_IF_ERROR(CheckLeftRecursion());
  Grammar grammar;
  used_terminals_.assign(automata_.size(), -1);
  pending_.clear();
  for (RuleEntry& rule : rules_) rule.entry = -1;
  for (auto& [embedded, entry] : embedded_) entry = -1;
  return_ = AddInstruction(grammar, {});
  grammar.start = Emit(root, return_, grammar);
  while (!pending_.empty()) {
    const Rule rule = pending_.back();
    pending_.pop_back();
    const int32_t body = Emit(rules_[rule].body, return_, grammar);
    grammar.program[rules_[rule].entry].targets = {body};
  }
  if (grammar.program.size() > kMaxProgram)
    return absl::ResourceExhaustedError("the grammar is too large");
  return grammar;
}

int32_t GrammarBuilder::AddInstruction(Grammar& grammar, Instruction instruction) {
  grammar.program.push_back(std::move(instruction));
  return static_cast<int32_t>(grammar.program.size()) - 1;
}

int32_t GrammarBuilder::UseTerminal(int32_t index, Grammar& grammar) {
  if (used_terminals_[index] < 0) {
    used_terminals_[index] = static_cast<int32_t>(grammar.terminals.size());
    grammar.terminals.push_back(automata_[index]);
  }
  return used_terminals_[index];
}

int32_t GrammarBuilder::Emit(Expr expr, int32_t next, Grammar& grammar) {
  if (grammar.program.size() > kMaxProgram) return next;  // Build refuses
  const Node& n = exprs_[expr];
  Instruction made;
  switch (n.kind) {
    case Kind::kEmpty:
    case Kind::kNothing:  // what cannot match is never emitted
      return next;
    case Kind::kTerminal:
      made.kind = Instruction::Kind::kTerminal;
      made.terminal = UseTerminal(n.index, grammar);
      made.next = next;
      made.endless = n.endless;
      return AddInstruction(grammar, std::move(made));
    case Kind::kSequence:
      for (size_t i = n.parts.size(); i-- > 0;) next = Emit(n.parts[i], next, grammar);
      return next;
    case Kind::kChoice:
      made.kind = Instruction::Kind::kSplit;
      for (const Expr part : n.parts) {
        if (productive_[part] != 0) made.targets.push_back(Emit(part, next, grammar));
      }
      return AddInstruction(grammar, std::move(made));
    case Kind::kRepeat:
      return EmitRepeat(n, next, grammar);
    case Kind::kText:
      return EmitText(n, next, grammar);
    case Kind::kGrammar: {
      auto& [embedded, entry] = embedded_[n.index];
      if (entry < 0) entry = AppendProgram(*embedded, grammar);
      if (next == return_) return entry;
      made.kind = Instruction::Kind::kCall;
      made.body = entry;
      made.next = next;
      return AddInstruction(grammar, std::move(made));
    }
    case Kind::kRule: {
      RuleEntry& rule = rules_[n.index];
      if (rule.entry < 0) {
        made.kind = Instruction::Kind::kSplit;
        rule.entry = AddInstruction(grammar, std::move(made));
        pending_.push_back(n.index);
      }
      if (next == return_) return rule.entry;  // the last call of a rule leaves nothing behind
      Instruction call;
      call.kind = Instruction::Kind::kCall;
      call.body = rule.entry;
      call.next = next;
      return AddInstruction(grammar, std::move(call));
    }
  }
  return next;
}

int32_t GrammarBuilder::EmitRepeat(const Node& node, int32_t next, Grammar& grammar) {
  const Expr body = node.parts[0];
  if (productive_[body] == 0) return next;
  const int32_t min = nullable_[body] != 0 ? 0 : node.min;
  if (node.max < 0 && min <= 1) {
    const int32_t split =
        AddInstruction(grammar, {Instruction::Kind::kSplit, -1, -1, -1, 0, -1, {}, -1});
    const int32_t again = Emit(body, split, grammar);
    grammar.program[split].targets = {again, next};
    return min == 0 ? split : again;
  }
  if (node.max >= 0 && node.max <= kMaxUnrolled) {
    int32_t at = next;
    for (int32_t i = node.max; i-- > 0;) {
      const int32_t one = Emit(body, at, grammar);
      at = i >= min ? AddInstruction(
                          grammar, {Instruction::Kind::kSplit, -1, -1, -1, 0, -1, {one, next}, -1})
                    : one;
    }
    return at;
  }
  const int32_t loop =
      AddInstruction(grammar, {Instruction::Kind::kLoop, -1, next, -1, min, node.max, {}, -1});
  const int32_t entry = Emit(body, return_, grammar);
  grammar.program[loop].body = entry;
  return loop;
}

int32_t GrammarBuilder::EmitText(const Node& node, int32_t next, Grammar& grammar) {
  const int32_t quote = Emit(quote_, next, grammar);
  const int32_t loop = AddInstruction(
      grammar, {Instruction::Kind::kLoop, -1, quote, -1, node.min, node.max, {}, -1});
  const int32_t character = Emit(text_char_, return_, grammar);
  grammar.program[loop].body = character;
  grammar.program[loop].text_loop = loop;
  grammar.program[character].text_loop = loop;
  return Emit(quote_, loop, grammar);
}

}  // namespace penstock::grammar
