#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "text/grammar/schema_compiler.h"

namespace penstock::grammar {

using Is = Condition::Is;

namespace {

constexpr size_t kMaxKeyClasses = 64;
constexpr size_t kMaxPendingMembers = 6;
constexpr size_t kMaxDemands = 4;
constexpr int kUndoneDepth = 2;  // so deep a look whether values contradict each other
constexpr int64_t kMaxCountedMembers = 2000;

}  // namespace

/// The members of objects that fulfil a conjunction of conditions: the listed ones in order, each
/// there or not, then others.
class ObjectShape {
 public:
  using Expr = SchemaCompiler::Expr;

  ObjectShape(SchemaCompiler* compiler, const std::vector<std::string>& order)
      : c_(*compiler), order_(order) {}

  /// The members and the brace that closes them, after the one that opens; kNothing where the
  /// conditions contradict each other.
  absl::StatusOr<Expr> Make(const Formulas::Conjunction& conditions,
                            std::vector<Literals>* needed) {
    for (const Condition* c : conditions) Take(*c);
    for (const std::string& name : lacked_) {
      if (Contains(required_, name)) return GrammarBuilder::kNothing;
    }
    if (max_ >= 0 && max_ < min_) return GrammarBuilder::kNothing;
    ASSIGN_OR_RETURN(const bool possible, MakeListed(needed));
    if (!possible) return GrammarBuilder::kNothing;
    RETURN_IF_ERROR(MakeOthers());
    counts_ = max_ >= 0 || min_ > static_cast<int64_t>(required_.size());
    if (counts_ && std::max(min_, max_) > kMaxCountedMembers && min_ <= 1 &&
        max_ > kMaxCountedMembers) {
      return absl::ResourceExhaustedError(
          absl::StrCat("#", c_.document_.node(node_).path, ": so many members are not counted"));
    }
    return Listed(0, false, 0);
  }

 private:
  struct ListedMember {
    std::string name;
    Expr value;
    bool required = false;
  };
  /// Keys of members that are not listed, and what their values fulfil.
  struct KeyClass {
    CharAutomaton keys;
    std::vector<uint8_t> matches;  // [patterns_]
    Literals value;
  };

  static bool Contains(const std::vector<std::string>& list, const std::string& name) {
    return std::find(list.begin(), list.end(), name) != list.end();
  }

  void Take(const Condition& c) {
    node_ = c.node;
    switch (c.is) {
      case Is::kHas:
        if (!Contains(required_, c.text)) required_.push_back(c.text);
        break;
      case Is::kLacks:
        lacked_.push_back(c.text);
        break;
      case Is::kMember:
        members_.emplace_back(c.text, c.literal);
        break;
      case Is::kMembers:
        if (c.literal != kAnything) domains_.push_back(&c);
        break;
      case Is::kHasMember:
        if (std::none_of(demands_.begin(), demands_.end(), [&](const Condition* d) {
              return d->domain == c.domain && d->literal == c.literal;
            }))
          demands_.push_back(&c);
        break;
      case Is::kNumMembers:
        if (c.min > min_) least_ = &c;
        min_ = std::max(min_, c.min);
        if (c.max >= 0) max_ = max_ < 0 ? c.max : std::min(max_, c.max);
        break;
      default:
        break;
    }
  }

  /// What the value of a member must fulfil.
  absl::StatusOr<Literals> LiteralsOf(const std::string& name) {
    Literals out;
    for (const auto& [key, literal] : members_) {
      if (key == name) out.push_back(literal);
    }
    for (const Condition* c : domains_) {
      ASSIGN_OR_RETURN(const bool inside, c_.InDomain(*c->domain, name, c->node));
      if (inside) out.push_back(c->literal);
    }
    return Normal(std::move(out));
  }

  absl::StatusOr<bool> MakeListed(std::vector<Literals>* needed) {
    std::vector<std::string> names = order_;
    for (const auto& [key, literal] : members_) {
      if (!Contains(names, key)) names.push_back(key);
    }
    // Names that only a domain leaves out are told from all others as well.
    const auto add_all = [&](const std::vector<std::string>& left_out) {
      for (const std::string& name : left_out) {
        if (!Contains(names, name)) names.push_back(name);
      }
    };
    for (const Condition* c : domains_) add_all(c->domain->excluded_names);
    for (const Condition* d : demands_) add_all(d->domain->excluded_names);
    excluded_ = names;
    for (const std::string& name : lacked_) excluded_.push_back(name);
    for (const std::string& name : required_) {
      if (Contains(names, name)) continue;
      // Not listed: it may come anywhere among the others.
      excluded_.push_back(name);
      if (pending_.size() >= kMaxPendingMembers) {
        names.push_back(name);
      } else {
        ASSIGN_OR_RETURN(Literals value, LiteralsOf(name));
        if (needed != nullptr) needed->push_back(value);
        if (value == Literals{kImpossible}) return false;
        pending_.push_back({c_.Key(name), c_.ValueOf(std::move(value))});
      }
    }
    for (const std::string& name : names) {
      const bool required = Contains(required_, name);
      if (Contains(lacked_, name)) continue;
      ASSIGN_OR_RETURN(Literals value, LiteralsOf(name));
      if (required && needed != nullptr) needed->push_back(value);
      const Expr expr = c_.ValueOf(std::move(value));
      if (expr == GrammarBuilder::kNothing) {
        if (required) return false;
        continue;
      }
      listed_.push_back({name, expr, required});
    }
    return true;
  }

  absl::Status MakeOthers() {
    std::vector<std::string> patterns;
    const auto add = [&](const std::string& p) {
      if (!Contains(patterns, p)) patterns.push_back(p);
    };
    std::vector<const KeyDomain*> all;
    for (const Condition* c : domains_) all.push_back(c->domain.get());
    for (const Condition* d : demands_) all.push_back(d->domain.get());
    std::vector<Literal> key_literals;
    for (const KeyDomain* d : all) {
      if (d->pattern) add(*d->pattern);
      for (const std::string& p : d->excluded_patterns) add(p);
      if (d->names &&
          std::find(key_literals.begin(), key_literals.end(), *d->names) == key_literals.end())
        key_literals.push_back(*d->names);
    }
    std::vector<std::u32string> words;
    for (const std::string& name : excluded_) words.push_back(ToCodePoints(name));
    std::vector<KeyClass> classes{{CharAutomaton::Words(words).Not(), {}, {}}};
    const auto split = [&](const CharAutomaton& by) -> absl::Status {
      const CharAutomaton rest = by.Not();
      std::vector<KeyClass> finer;
      for (const KeyClass& k : classes) {
        for (const bool inside : {true, false}) {
          ASSIGN_OR_RETURN(CharAutomaton keys, CharAutomaton::And(k.keys, inside ? by : rest));
          if (keys.empty()) continue;
          finer.push_back({std::move(keys), k.matches, {}});
          finer.back().matches.push_back(inside ? 1 : 0);
        }
      }
      classes = std::move(finer);
      if (classes.size() > kMaxKeyClasses)
        return absl::ResourceExhaustedError("too many patterns of names at once");
      return c_.formulas_.CheckTime();
    };
    for (const std::string& p : patterns) {
      ASSIGN_OR_RETURN(const CharAutomaton* by, c_.PatternOf(p, node_, "patternProperties"));
      RETURN_IF_ERROR(c_.At(node_, split(*by)));
    }
    for (const Literal& l : key_literals) {
      ASSIGN_OR_RETURN(const int32_t formula, c_.formulas_.Of(l, Kind::kString));
      if (c_.NamesHosts(formula)) {
        RETURN_IF_ERROR(c_.formulas_.Refuse(c_.NodeOf(formula), "format",
                                            "at most 253 characters cannot be kept of names"));
      }
      ASSIGN_OR_RETURN(const CharAutomaton by, c_.TextsOf(formula));
      RETURN_IF_ERROR(c_.At(node_, split(by)));
    }
    const auto inside = [&](const KeyClass& k, const KeyDomain& d) {
      for (size_t i = 0; i < patterns.size(); ++i) {
        if (d.pattern == patterns[i] && k.matches[i] == 0) return false;
        if (Contains(d.excluded_patterns, patterns[i]) && k.matches[i] != 0) return false;
      }
      for (size_t i = 0; i < key_literals.size(); ++i) {
        if (d.names == key_literals[i] && k.matches[patterns.size() + i] == 0) return false;
      }
      return true;
    };
    for (KeyClass& k : classes) {
      for (const Condition* c : domains_) {
        if (inside(k, *c->domain)) k.value.push_back(c->literal);
      }
      k.value = Normal(std::move(k.value));
    }
    // One expression for all keys whose values fulfil the same.
    std::map<Literals, CharAutomaton> by_value;
    for (const KeyClass& k : classes) {
      const auto [it, added] = by_value.try_emplace(k.value, k.keys);
      if (added) continue;
      ASSIGN_OR_RETURN(it->second, CharAutomaton::Or(it->second, k.keys));
    }
    std::vector<Expr> options;
    for (const auto& [value, keys] : by_value) {
      const Expr expr = c_.ValueOf(value);
      if (expr != GrammarBuilder::kNothing) options.push_back(Member(KeyOf(keys), expr));
    }
    other_ = c_.builder_.Choice(std::move(options));
    if (demands_.size() > kMaxDemands)
      return absl::ResourceExhaustedError(absl::StrCat("#", c_.document_.node(node_).path,
                                                       ": too many members are demanded at once"));
    // One member may be what several demands ask for.
    for (uint32_t met = 0; met < (1u << demands_.size()); ++met) {
      std::vector<Expr> ways;
      for (const KeyClass& k : classes) {
        Literals value = k.value;
        bool possible = met != 0;
        for (size_t d = 0; d < demands_.size(); ++d) {
          if ((met >> d & 1) == 0) continue;
          possible = possible && inside(k, *demands_[d]->domain);
          value.push_back(demands_[d]->literal);
        }
        if (!possible) continue;
        value = Normal(std::move(value));
        const Expr expr = c_.ValueOf(value);
        // A second member of the same name would take the place of the one that was demanded.
        if (expr != GrammarBuilder::kNothing) RETURN_IF_ERROR(CheckLasting(met, k.value));
        ways.push_back(Member(KeyOf(k.keys), expr));
      }
      demanded_.push_back(c_.builder_.Choice(std::move(ways)));
    }
    return absl::OkStatus();
  }

  /// Refuses demands that a second member of the same name, whose value fulfils `others`, could undo.
  absl::Status CheckLasting(uint32_t met, const Literals& others) {
    if (max_ == 0 || max_ == 1) return absl::OkStatus();  // there is no second one
    for (size_t d = 0; d < demands_.size(); ++d) {
      if ((met >> d & 1) == 0) continue;
      Literals undone = others;
      undone.push_back(!demands_[d]->literal);
      ASSIGN_OR_RETURN(const bool may, c_.MayHoldAtAll(Normal(std::move(undone)), kUndoneDepth));
      if (!may) continue;
      RETURN_IF_ERROR(
          c_.formulas_.Refuse(demands_[d]->node, demands_[d]->text,
                              "cannot be kept under a negation where names are not listed"));
    }
    return absl::OkStatus();
  }

  Expr KeyOf(const CharAutomaton& keys) {
    return c_.builder_.Sequence(
        {c_.builder_.Terminal(ByteAutomaton::Of(keys, TextEncoding::kJsonString)), c_.Text(":"),
         c_.Blank()});
  }

  Expr Member(Expr key, Expr value) { return c_.builder_.Sequence({key, value}); }
  Expr Next(Expr member, bool first, Expr rest) {
    if (first) return c_.builder_.Sequence({member, rest});
    return c_.builder_.Sequence({c_.Text(","), c_.Blank(), member, rest});
  }

  int64_t Counted(int64_t count) const {
    if (!counts_) return 0;
    return max_ >= 0 ? count : std::min(count, min_);
  }

  /// The members from the listed one at `at` on. `any`: there are members before; `count`: how many.
  absl::StatusOr<Expr> Listed(size_t at, bool any, int64_t count) {
    if (max_ >= 0 && count > max_) return GrammarBuilder::kNothing;
    if (at == listed_.size()) return Others(0, any, count);
    const auto key = std::tuple(at, any, count);
    const auto [it, added] = listed_rules_.try_emplace(key, -1);
    if (!added) return c_.builder_.Refer(it->second);
    const GrammarBuilder::Rule rule = it->second = c_.builder_.NewRule("members");
    RETURN_IF_ERROR(c_.formulas_.CheckTime());
    const ListedMember& member = listed_[at];
    ASSIGN_OR_RETURN(const Expr with, Listed(at + 1, true, Counted(count + 1)));
    std::vector<Expr> ways{Next(Member(c_.Key(member.name), member.value), !any, with)};
    if (!member.required) {
      ASSIGN_OR_RETURN(const Expr without, Listed(at + 1, any, count));
      ways.push_back(without);
    }
    c_.builder_.Define(rule, c_.builder_.Choice(std::move(ways)));
    return c_.builder_.Refer(rule);
  }

  /// The members that are not listed; of those that must be there `done` were there.
  absl::StatusOr<Expr> Others(uint32_t done, bool any, int64_t count) {
    if (max_ >= 0 && count > max_) return GrammarBuilder::kNothing;
    const auto key = std::tuple(done, any, count);
    const auto [it, added] = other_rules_.try_emplace(key, -1);
    if (!added) return c_.builder_.Refer(it->second);
    const GrammarBuilder::Rule rule = it->second = c_.builder_.NewRule("other members");
    RETURN_IF_ERROR(c_.formulas_.CheckTime());
    std::vector<Expr> ways;
    const size_t num_pending = pending_.size();
    const bool complete = done + 1 == (1u << (num_pending + demands_.size()));
    if (complete && count >= (counts_ ? min_ : 0))
      ways.push_back(any ? c_.builder_.Sequence({c_.Blank(), c_.Text("}")}) : c_.Text("}"));
    // Of the others one may be there twice, which counts once.
    if (other_ != GrammarBuilder::kNothing && counts_ && count + 1 < min_) {
      RETURN_IF_ERROR(c_.formulas_.Refuse(least_->node, least_->text,
                                          "cannot be kept where names of members are not listed"));
    }
    if (other_ != GrammarBuilder::kNothing) {
      ASSIGN_OR_RETURN(const Expr rest, Others(done, true, Counted(count + 1)));
      ways.push_back(Next(other_, !any, rest));
    }
    const auto add = [&](Expr member, uint32_t met) -> absl::Status {
      ASSIGN_OR_RETURN(const Expr rest, Others(done | met, true, Counted(count + 1)));
      ways.push_back(Next(member, !any, rest));
      return absl::OkStatus();
    };
    for (size_t i = 0; i < num_pending; ++i) {
      if ((done >> i & 1) != 0) continue;
      RETURN_IF_ERROR(add(Member(pending_[i].first, pending_[i].second), 1u << i));
    }
    const uint32_t met_before = done >> num_pending;
    for (uint32_t met = 1; met < demanded_.size(); ++met) {
      if ((met & met_before) != 0 || demanded_[met] == GrammarBuilder::kNothing) continue;
      RETURN_IF_ERROR(add(demanded_[met], met << num_pending));
    }
    c_.builder_.Define(rule, c_.builder_.Choice(std::move(ways)));
    return c_.builder_.Refer(rule);
  }

  SchemaCompiler& c_;
  const std::vector<std::string>& order_;
  int32_t node_ = 0;
  std::vector<std::string> required_, lacked_, excluded_;
  std::vector<std::pair<std::string, Literal>> members_;
  std::vector<const Condition*> domains_;
  std::vector<const Condition*> demands_;
  int64_t min_ = 0, max_ = -1;
  const Condition* least_ = nullptr;  // that min_ is of; null: it is 0
  bool counts_ = false;
  std::vector<ListedMember> listed_;
  std::vector<std::pair<Expr, Expr>> pending_;  // key and value of what is required and not listed
  Expr other_ = GrammarBuilder::kNothing;
  std::vector<Expr> demanded_;  // by the set of demands that are met
  std::map<std::tuple<size_t, bool, int64_t>, GrammarBuilder::Rule> listed_rules_;
  std::map<std::tuple<uint32_t, bool, int64_t>, GrammarBuilder::Rule> other_rules_;
};

SchemaCompiler::Expr SchemaCompiler::Key(const std::string& name) {
  const bool plain = std::all_of(name.begin(), name.end(), [](char ch) {
    return ch >= 0x20 && ch < 0x7F && ch != '"' && ch != '\\' && ch != '/';
  });
  if (plain) return builder_.Sequence({Text(absl::StrCat("\"", name, "\":")), blank_});
  return builder_.Sequence(
      {builder_.Terminal(ByteAutomaton::Of(CharAutomaton::Words({ToCodePoints(name)}),
                                           TextEncoding::kJsonString)),
       Text(":"), blank_});
}

absl::StatusOr<bool> SchemaCompiler::InDomain(const KeyDomain& domain, const std::string& name,
                                              int32_t node) {
  const auto& names = domain.excluded_names;
  if (std::find(names.begin(), names.end(), name) != names.end()) return false;
  const std::u32string text = ToCodePoints(name);
  if (domain.pattern) {
    ASSIGN_OR_RETURN(const CharAutomaton* p, PatternOf(*domain.pattern, node, "patternProperties"));
    if (!p->Matches(text)) return false;
  }
  for (const std::string& pattern : domain.excluded_patterns) {
    ASSIGN_OR_RETURN(const CharAutomaton* p, PatternOf(pattern, node, "patternProperties"));
    if (p->Matches(text)) return false;
  }
  if (domain.names) {
    ASSIGN_OR_RETURN(const int32_t formula, formulas_.Of(*domain.names, Kind::kString));
    ASSIGN_OR_RETURN(const CharAutomaton keys, TextsOf(formula));
    if (!keys.Matches(text)) return false;
  }
  return true;
}

absl::StatusOr<SchemaCompiler::Expr> SchemaCompiler::MakeObject(const Literals& literals,
                                                                int32_t formula) {
  ASSIGN_OR_RETURN(const std::vector<Formulas::Conjunction> alternatives,
                   formulas_.Alternatives(formula));
  std::vector<std::string> order;
  for (const Literal& l : literals) formulas_.CollectNames(l, order, 0);
  std::vector<Expr> options;
  // A demand for some member may be met by a listed one.
  std::function<absl::Status(const Formulas::Conjunction&, size_t)> add =
      [&](const Formulas::Conjunction& conditions, size_t from) -> absl::Status {
    for (size_t i = from; i < conditions.size(); ++i) {
      if (conditions[i]->is != Is::kHasMember) continue;
      const Condition& demand = *conditions[i];
      std::vector<std::string> names = order;
      for (const Condition* c : conditions) {
        if ((c->is == Is::kHas || c->is == Is::kMember) &&
            std::find(names.begin(), names.end(), c->text) == names.end())
          names.push_back(c->text);
      }
      for (const std::string& name : names) {
        ASSIGN_OR_RETURN(const bool inside, InDomain(*demand.domain, name, demand.node));
        if (!inside) continue;
        Condition has = demand, is = demand;
        has.is = Is::kHas;
        is.is = Is::kMember;
        has.text = is.text = name;
        Formulas::Conjunction met = conditions;
        met.erase(met.begin() + static_cast<ptrdiff_t>(i));
        met.push_back(formulas_.Keep(std::move(has)));
        met.push_back(formulas_.Keep(std::move(is)));
        RETURN_IF_ERROR(add(met, i));
      }
    }
    ASSIGN_OR_RETURN(const Expr members,
                     ObjectShape(this, order).Make(conditions, &needed_[literals]));
    if (members != GrammarBuilder::kNothing) options.push_back(members);
    return absl::OkStatus();
  };
  for (const Formulas::Conjunction& conditions : alternatives) RETURN_IF_ERROR(add(conditions, 0));
  return builder_.Sequence({Text("{"), blank_, builder_.Choice(std::move(options))});
}

}  // namespace penstock::grammar
