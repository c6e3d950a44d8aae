#include "text/grammar/json_schema.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "text/grammar/formats.h"
#include "text/grammar/host_names.h"
#include "text/grammar/number_language.h"
#include "text/grammar/pattern.h"
#include "text/grammar/schema_compiler.h"

namespace penstock::grammar {
namespace {

constexpr int64_t kMaxCountedLength = 5000;  // beside a pattern
constexpr size_t kMaxAutomataBytes = 96u << 20;

/// Between the parts of a document: nothing, a blank, or a line's end with some indentation. So a
/// model cannot write blanks without end.
ByteAutomaton BlankAutomaton() {
  constexpr int kMaxIndent = 40;
  std::vector<std::array<int32_t, 256>> rows(kMaxIndent + 3);
  for (auto& row : rows) row.fill(ByteAutomaton::kDead);
  rows[0][' '] = 1;
  rows[0]['\n'] = 2;
  for (int i = 0; i < kMaxIndent; ++i) {
    rows[i + 2][' '] = i + 3;
    rows[i + 2]['\t'] = i + 3;
  }
  return {rows, std::vector<uint8_t>(rows.size(), 1)};
}

bool IsHostName(const Condition& c) {
  return !c.negated && c.is == Condition::Is::kFormat && c.text == "hostname";
}

}  // namespace

Literals Normal(Literals literals) {
  std::erase(literals, kAnything);
  std::sort(literals.begin(), literals.end());
  literals.erase(std::unique(literals.begin(), literals.end()), literals.end());
  for (const Literal& l : literals) {
    if (l == kImpossible || std::binary_search(literals.begin(), literals.end(), !l))
      return {kImpossible};
  }
  return literals;
}

SchemaCompiler::SchemaCompiler(SchemaDocument* document, SchemaOptions options)
    : document_(*document), formulas_(document, options) {
  blank_ = builder_.Terminal(BlankAutomaton());
  formulas_.set_may_meet([this](Literal a, Literal b, Kind kind) -> absl::StatusOr<bool> {
    // The question may lead to itself; then the answer is the one that is always exact.
    if (meeting_ >= 2) return true;
    ++meeting_;
    absl::StatusOr<bool> out = MayHold(Normal({a, b}), kind, 3);
    --meeting_;
    return out;
  });
}

SchemaCompiler::Expr SchemaCompiler::AnyValue() {
  if (any_value_ >= 0) return builder_.Refer(any_value_);
  any_value_ = builder_.NewRule("any value");
  const Expr self = builder_.Refer(any_value_);
  const Expr text = builder_.JsonText(0, -1);
  const Expr number = builder_.Terminal(ByteAutomaton::Of(AnyNumber(), TextEncoding::kUtf8));
  const Expr item = builder_.Sequence({Text(","), blank_, self});
  const Expr items = builder_.Sequence({self, builder_.Repeat(item, 0, -1)});
  const Expr array = builder_.Sequence(
      {Text("["), blank_, builder_.Optional(builder_.Sequence({items, blank_})), Text("]")});
  const Expr member = builder_.Sequence({text, Text(":"), blank_, self});
  const Expr more = builder_.Sequence({Text(","), blank_, member});
  const Expr members = builder_.Sequence({member, builder_.Repeat(more, 0, -1)});
  any_object_ = builder_.NewRule("any object");
  builder_.Define(
      any_object_,
      builder_.Sequence(
          {Text("{"), blank_, builder_.Optional(builder_.Sequence({members, blank_})), Text("}")}));
  builder_.Define(any_value_, builder_.Choice({builder_.Refer(any_object_), array, text, number,
                                               Text("true"), Text("false"), Text("null")}));
  return self;
}

SchemaCompiler::Expr SchemaCompiler::AnyObject() {
  AnyValue();
  return builder_.Refer(any_object_);
}

std::string SchemaCompiler::PathOf(const Literals& literals) const {
  for (const Literal& l : literals) {
    if (l.node >= 0) return absl::StrCat("#", document_.node(l.node).path);
  }
  return "#";
}

absl::Status SchemaCompiler::At(int32_t node, const absl::Status& status) const {
  if (status.ok() || Message(status).starts_with('#')) return status;
  return absl::Status(status.code(),
                      absl::StrCat("#", document_.node(node).path, ": ", status.message()));
}

absl::StatusOr<int32_t> SchemaCompiler::FormulaOf(const Literals& literals, Kind kind) {
  std::vector<int32_t> parts;
  for (const Literal& l : literals) {
    ASSIGN_OR_RETURN(const int32_t part, formulas_.Of(l, kind));
    parts.push_back(part);
  }
  return formulas_.And(std::move(parts));
}

SchemaCompiler::Expr SchemaCompiler::ValueOf(Literals literals) {
  literals = Normal(std::move(literals));
  if (literals.empty()) return AnyValue();
  if (literals.front() == kImpossible) return GrammarBuilder::kNothing;
  const auto [it, added] = rules_.try_emplace(literals, -1);
  if (added) {
    it->second = builder_.NewRule(PathOf(literals));
    pending_.emplace_back(std::move(literals), it->second);
  }
  return builder_.Refer(it->second);
}

absl::StatusOr<Grammar> SchemaCompiler::Compile() {
  const Literals root{{SchemaDocument::kRoot, false}};
  const Expr start = ValueOf(root);
  while (!pending_.empty()) {
    const auto [literals, rule] = std::move(pending_.back());
    pending_.pop_back();
    ASSIGN_OR_RETURN(const Expr body, MakeValue(literals));
    builder_.Define(rule, body);
    if (builder_.num_expressions() > GrammarBuilder::kMaxExpressions ||
        builder_.automata_bytes() > kMaxAutomataBytes || builder_.too_large())
      return absl::ResourceExhaustedError(
          absl::StrCat(PathOf(literals), ": the schema is too complex to compile"));
    RETURN_IF_ERROR(formulas_.CheckTime());
  }
  if (!builder_.MatchesAnything(start, false)) return Impossible(root);
  return builder_.Build(start);
}

absl::Status SchemaCompiler::Impossible(const Literals& literals) {
  // Down to the deepest member that must be there and cannot.
  Literals at = literals;
  for (int depth = 0; depth < SchemaDocument::kMaxDepth; ++depth) {
    const Literals* below = nullptr;
    for (const Literals& needed : needed_[at]) {
      const auto rule = rules_.find(needed);
      const bool possible =
          needed.empty() ||
          (rule != rules_.end() && builder_.MatchesAnything(builder_.Refer(rule->second), false));
      if (!possible && !(needed.front() == kImpossible)) below = &needed;
    }
    if (below == nullptr) break;
    at = *below;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      PathOf(at), ": no value can fulfil this (its conditions contradict each other)"));
}

absl::StatusOr<SchemaCompiler::Expr> SchemaCompiler::MakeValue(const Literals& literals) {
  std::map<Kind, int32_t> formulas;
  for (const Kind kind : kKinds) {
    ASSIGN_OR_RETURN(formulas[kind], FormulaOf(literals, kind));
  }
  if (std::all_of(formulas.begin(), formulas.end(),
                  [](const auto& f) { return f.second == Formulas::kTrue; }))
    return AnyValue();
  std::vector<Expr> options;
  for (const auto& [kind, formula] : formulas) {
    if (formula == Formulas::kFalse) continue;
    Expr option = GrammarBuilder::kNothing;
    switch (kind) {
      case Kind::kObject: {
        ASSIGN_OR_RETURN(option, MakeObject(literals, formula));
        break;
      }
      case Kind::kArray: {
        ASSIGN_OR_RETURN(option, MakeArray(formula));
        break;
      }
      case Kind::kString: {
        ASSIGN_OR_RETURN(option, MakeText(formula));
        break;
      }
      case Kind::kNumber: {
        ASSIGN_OR_RETURN(option, MakeNumber(formula));
        break;
      }
      case Kind::kTrue:
        option = Text("true");
        break;
      case Kind::kFalse:
        option = Text("false");
        break;
      case Kind::kNull:
        option = Text("null");
        break;
    }
    options.push_back(option);
  }
  return builder_.Choice(std::move(options));
}

absl::StatusOr<SchemaCompiler::Expr> SchemaCompiler::MakeText(int32_t formula) {
  // Lengths alone are counted, which takes no automaton of that size.
  const Formulas::Node& n = formulas_.node(formula);
  int64_t min = 0, max = -1;
  bool only_lengths = n.form == Formulas::Form::kTrue;
  const auto take = [&](const Formulas::Node& part) {
    if (part.form != Formulas::Form::kCondition || part.condition.is != Condition::Is::kLength)
      return false;
    min = std::max(min, part.condition.min);
    const int64_t other = part.condition.max;
    max = max < 0 ? other : other < 0 ? max : std::min(max, other);
    return true;
  };
  if (n.form == Formulas::Form::kCondition) only_lengths = take(n);
  if (n.form == Formulas::Form::kAnd)
    only_lengths = std::all_of(n.parts.begin(), n.parts.end(),
                               [&](int32_t part) { return take(formulas_.node(part)); });
  if (only_lengths) return builder_.JsonText(min, max);
  if (NamesHosts(formula)) return MakeHostNames(formula);
  const absl::StatusOr<CharAutomaton> texts = TextsOf(formula);
  if (!texts.ok()) return At(NodeOf(formula), texts.status());
  if (texts->empty()) return GrammarBuilder::kNothing;
  return builder_.Terminal(ByteAutomaton::Of(*texts, TextEncoding::kJsonString));
}

bool SchemaCompiler::NamesHosts(int32_t formula) const {
  const Formulas::Node& n = formulas_.node(formula);
  if (n.form == Formulas::Form::kCondition)
    return n.condition.is == Condition::Is::kFormat && n.condition.text == "hostname";
  return std::any_of(n.parts.begin(), n.parts.end(), [&](int32_t p) { return NamesHosts(p); });
}

absl::StatusOr<SchemaCompiler::Expr> SchemaCompiler::MakeHostNames(int32_t formula) {
  std::vector<Expr> options;
  if (const Formulas::Node& n = formulas_.node(formula); n.form == Formulas::Form::kOr) {
    std::vector<int32_t> others, hosts;
    for (const int32_t part : n.parts) (NamesHosts(part) ? hosts : others).push_back(part);
    if (!others.empty()) hosts.push_back(formulas_.Or(std::move(others)));
    for (const int32_t part : hosts) {
      ASSIGN_OR_RETURN(options.emplace_back(), MakeText(part));
    }
    return builder_.Choice(std::move(options));
  }
  ASSIGN_OR_RETURN(const std::vector<Formulas::Conjunction> alternatives,
                   formulas_.Alternatives(formula));
  for (const Formulas::Conjunction& conditions : alternatives) {
    const absl::StatusOr<Expr> option = MakeTextOf(conditions);
    if (!option.ok()) return At(NodeOf(formula), option.status());
    options.push_back(*option);
  }
  return builder_.Choice(std::move(options));
}

absl::StatusOr<SchemaCompiler::Expr> SchemaCompiler::MakeTextOf(
    const Formulas::Conjunction& conditions) {
  RETURN_IF_ERROR(formulas_.CheckTime());
  const bool host = std::any_of(conditions.begin(), conditions.end(),
                                [](const Condition* c) { return IsHostName(*c); });
  int64_t min = 0, max = kMostHostName;
  std::vector<CharAutomaton> others;
  for (const Condition* c : conditions) {
    RETURN_IF_ERROR(formulas_.CheckTime());
    if (IsHostName(*c)) continue;
    if (host && c->is == Condition::Is::kLength && !c->negated) {
      min = std::max(min, c->min);
      if (c->max >= 0) max = std::min(max, c->max);
      continue;
    }
    ASSIGN_OR_RETURN(others.emplace_back(), TextsOfCondition(*c));
  }
  if (host && min > max) return GrammarBuilder::kNothing;
  if (host && others.empty() && min <= 1 && max == kMostHostName) {
    static const ByteAutomaton& any = *new ByteAutomaton(*ShortTexts(*FindFormat("hostname"), max));
    return builder_.Terminal(any);
  }
  CharAutomaton texts = host ? *FindFormat("hostname") : CharAutomaton::All();
  if (min > 1) others.push_back(CharAutomaton::Length(min, -1));
  for (const CharAutomaton& other : others) {
    RETURN_IF_ERROR(formulas_.CheckTime());
    ASSIGN_OR_RETURN(texts, CharAutomaton::And(texts, other));
  }
  if (texts.empty()) return GrammarBuilder::kNothing;
  if (!host) return builder_.Terminal(ByteAutomaton::Of(texts, TextEncoding::kJsonString));
  ASSIGN_OR_RETURN(ByteAutomaton made, ShortTexts(texts, max));
  return builder_.Terminal(std::move(made));
}

absl::StatusOr<SchemaCompiler::Expr> SchemaCompiler::MakeNumber(int32_t formula) {
  if (formula == Formulas::kTrue)
    return builder_.Terminal(ByteAutomaton::Of(AnyNumber(), TextEncoding::kUtf8));
  const absl::StatusOr<CharAutomaton> numbers = NumbersOf(formula);
  if (!numbers.ok()) return At(NodeOf(formula), numbers.status());
  if (numbers->empty()) return GrammarBuilder::kNothing;
  return builder_.Terminal(ByteAutomaton::Of(*numbers, TextEncoding::kUtf8));
}

int32_t SchemaCompiler::NodeOf(int32_t formula) const {
  const Formulas::Node* at = &formulas_.node(formula);
  while (!at->parts.empty()) at = &formulas_.node(at->parts[0]);
  return at->condition.node;
}

absl::StatusOr<const CharAutomaton*> SchemaCompiler::PatternOf(const std::string& pattern,
                                                               int32_t node,
                                                               std::string_view keyword) {
  const auto it = patterns_.find(pattern);
  if (it != patterns_.end()) return &it->second;
  RETURN_IF_ERROR(formulas_.CheckTime());
  absl::StatusOr<CharAutomaton> made = CompilePattern(pattern, PatternUse::kSearch);
  if (!made.ok()) {
    RETURN_IF_ERROR(formulas_.Refuse(node, keyword, Message(made.status())));
    made = CharAutomaton::All();
  }
  return &patterns_.emplace(pattern, *std::move(made)).first->second;
}

absl::StatusOr<CharAutomaton> SchemaCompiler::TextsOfCondition(const Condition& c) {
  CharAutomaton out;
  switch (c.is) {
    case Condition::Is::kLength:
      if (std::max(c.min, c.max) > kMaxCountedLength)
        return absl::ResourceExhaustedError("so long a text with a pattern is too large");
      return CharAutomaton::Length(c.min, c.max);
    case Condition::Is::kPattern: {
      ASSIGN_OR_RETURN(const CharAutomaton* found, PatternOf(c.text, c.node, "pattern"));
      out = *found;
      break;
    }
    case Condition::Is::kFormat:
      out = *FindFormat(c.text);
      break;
    case Condition::Is::kWord:
      out = CharAutomaton::Words({ToCodePoints(c.text)});
      break;
    default:
      CHECK(false);
  }
  return c.negated ? out.Not() : out;
}

absl::StatusOr<CharAutomaton> SchemaCompiler::NumbersOfCondition(const Condition& c) {
  CharAutomaton out;
  const auto number = ParseDecimal(c.text);
  switch (c.is) {
    case Condition::Is::kWhole:
      out = c.negated ? WholeValues() : WholeNumbers();
      break;
    case Condition::Is::kAbove:
      out = NumbersAbove(*number, c.flag);
      break;
    case Condition::Is::kBelow:
      out = NumbersBelow(*number, c.flag);
      break;
    case Condition::Is::kMultiple: {
      ASSIGN_OR_RETURN(out, MultiplesOf(*number));
      break;
    }
    case Condition::Is::kEqual:
      if (!number) return absl::ResourceExhaustedError("a number has too many digits");
      out = NumbersEqual(*number);
      break;
    default:
      CHECK(false);
  }
  if (!c.negated) return out;
  return CharAutomaton::And(PlainNumbers(), out.Not());
}

absl::StatusOr<CharAutomaton> SchemaCompiler::TextsOf(int32_t formula) {
  RETURN_IF_ERROR(formulas_.CheckTime());
  const Formulas::Node& n = formulas_.node(formula);
  switch (n.form) {
    case Formulas::Form::kTrue:
      return CharAutomaton::All();
    case Formulas::Form::kFalse:
      return CharAutomaton();
    case Formulas::Form::kCondition: {
      absl::StatusOr<CharAutomaton> out = TextsOfCondition(n.condition);
      if (!out.ok()) return At(n.condition.node, out.status());
      return out;
    }
    default:
      break;
  }
  const bool all = n.form == Formulas::Form::kAnd;
  CharAutomaton out = all ? CharAutomaton::All() : CharAutomaton();
  std::vector<std::u32string> words;  // of an enumeration, as one automaton
  for (const int32_t part : n.parts) {
    const Formulas::Node& p = formulas_.node(part);
    if (!all && p.form == Formulas::Form::kCondition && !p.condition.negated &&
        p.condition.is == Condition::Is::kWord) {
      words.push_back(ToCodePoints(p.condition.text));
      continue;
    }
    ASSIGN_OR_RETURN(const CharAutomaton one, TextsOf(part));
    ASSIGN_OR_RETURN(out, all ? CharAutomaton::And(out, one) : CharAutomaton::Or(out, one));
  }
  if (!words.empty()) {
    ASSIGN_OR_RETURN(out, CharAutomaton::Or(out, CharAutomaton::Words(words)));
  }
  return out;
}

absl::StatusOr<CharAutomaton> SchemaCompiler::NumbersOf(int32_t formula) {
  RETURN_IF_ERROR(formulas_.CheckTime());
  const Formulas::Node& n = formulas_.node(formula);
  switch (n.form) {
    case Formulas::Form::kTrue:
      return PlainNumbers();
    case Formulas::Form::kFalse:
      return CharAutomaton();
    case Formulas::Form::kCondition: {
      absl::StatusOr<CharAutomaton> out = NumbersOfCondition(n.condition);
      if (!out.ok()) return At(n.condition.node, out.status());
      return out;
    }
    default:
      break;
  }
  const bool all = n.form == Formulas::Form::kAnd;
  CharAutomaton out = all ? PlainNumbers() : CharAutomaton();
  for (const int32_t part : n.parts) {
    ASSIGN_OR_RETURN(const CharAutomaton one, NumbersOf(part));
    ASSIGN_OR_RETURN(out, all ? CharAutomaton::And(out, one) : CharAutomaton::Or(out, one));
  }
  return out;
}

absl::StatusOr<Grammar> CompileJsonSchema(const nlohmann::ordered_json& schema,
                                          const SchemaOptions& options) {
  ASSIGN_OR_RETURN(SchemaDocument document, SchemaDocument::Make(schema));
  return SchemaCompiler(&document, options).Compile();
}

absl::StatusOr<Grammar> CompileJsonObject() {
  const nlohmann::ordered_json any = true;
  ASSIGN_OR_RETURN(SchemaDocument document, SchemaDocument::Make(any));
  SchemaCompiler compiler(&document, {});
  return compiler.builder().Build(compiler.AnyObject());
}

}  // namespace penstock::grammar
