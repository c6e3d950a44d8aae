#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "text/grammar/schema_compiler.h"

namespace penstock::grammar {

using Is = Condition::Is;

namespace {

constexpr int64_t kMaxPrefix = 1000;
constexpr int64_t kMaxCountedItems = 300;

}  // namespace

/// The items of arrays that fulfil a conjunction of conditions.
class ArrayShape {
 public:
  using Expr = SchemaCompiler::Expr;

  explicit ArrayShape(SchemaCompiler* compiler) : c_(*compiler) {}

  /// The items and the bracket that closes them, after the one that opens.
  absl::StatusOr<Expr> Make(const Formulas::Conjunction& conditions) {
    for (const Condition* c : conditions) Take(*c);
    if (max_ >= 0 && max_ < min_) return GrammarBuilder::kNothing;
    if (num_prefix_ > kMaxPrefix)
      return absl::ResourceExhaustedError(
          absl::StrCat("#", c_.document_.node(node_).path, ": too many items are told apart"));
    if (unique_ != nullptr && (max_ < 0 || max_ > 1)) {
      RETURN_IF_ERROR(c_.formulas_.Refuse(unique_->node, "uniqueItems",
                                          "a grammar cannot tell items that were there before"));
    }
    if (counts_.empty()) return Plain(0);
    if (std::max({min_, max_, num_prefix_}) > kMaxCountedItems || counts_.size() > 3) {
      return absl::ResourceExhaustedError(
          absl::StrCat("#", c_.document_.node(node_).path, ": too many items are counted at once"));
    }
    return Counting(0, std::vector<int64_t>(counts_.size(), 0));
  }

 private:
  void Take(const Condition& c) {
    node_ = c.node;
    switch (c.is) {
      case Is::kNumItems:
        min_ = std::max(min_, c.min);
        if (c.max >= 0) max_ = max_ < 0 ? c.max : std::min(max_, c.max);
        break;
      case Is::kHasItem:
        min_ = std::max(min_, c.min + 1);
        [[fallthrough]];
      case Is::kItem:
        num_prefix_ = std::max(num_prefix_, c.min + 1);
        items_.push_back(&c);
        break;
      case Is::kItemsFrom:
        num_prefix_ = std::max(num_prefix_, c.min);
        items_.push_back(&c);
        break;
      case Is::kCountFrom:
        num_prefix_ = std::max(num_prefix_, c.first);
        counts_.push_back(&c);
        break;
      case Is::kUnique:
        unique_ = &c;
        break;
      default:
        break;
    }
  }

  Literals LiteralsAt(int64_t index) const {
    Literals out;
    for (const Condition* c : items_) {
      if (c->is == Is::kItemsFrom ? index >= c->min : index == c->min) out.push_back(c->literal);
    }
    return out;
  }

  Expr Close(int64_t count) {
    return count == 0 ? c_.Text("]") : c_.builder_.Sequence({c_.Blank(), c_.Text("]")});
  }
  Expr Item(int64_t index, Expr value) {
    if (index == 0) return value;
    return c_.builder_.Sequence({c_.Text(","), c_.Blank(), value});
  }

  absl::StatusOr<Expr> Plain(int64_t index) {
    RETURN_IF_ERROR(c_.formulas_.CheckTime());
    if (index == max_) return Close(index);
    const Expr value = c_.ValueOf(LiteralsAt(index));
    if (index >= num_prefix_ && index > 0) {
      const int64_t most = max_ < 0 ? -1 : max_ - index;
      const Expr more =
          c_.builder_.Repeat(Item(index, value), std::max<int64_t>(0, min_ - index), most);
      return c_.builder_.Sequence({more, Close(index)});
    }
    // As rules, so that a long prefix is no deep expression.
    const GrammarBuilder::Rule rule = c_.builder_.NewRule("items");
    std::vector<Expr> ways;
    if (index >= min_) ways.push_back(Close(index));
    if (value != GrammarBuilder::kNothing) {
      ASSIGN_OR_RETURN(const Expr rest, Plain(index + 1));
      ways.push_back(c_.builder_.Sequence({Item(index, value), rest}));
    }
    c_.builder_.Define(rule, c_.builder_.Choice(std::move(ways)));
    return c_.builder_.Refer(rule);
  }

  /// With how many items so far each count has met.
  absl::StatusOr<Expr> Counting(int64_t index, const std::vector<int64_t>& met) {
    // What lies behind all borders is told apart no further.
    const int64_t border = std::max({num_prefix_, min_, max_ < 0 ? int64_t{1} : max_ + 1});
    const auto key = std::pair(std::min(index, border), met);
    const auto [it, added] = rules_.try_emplace(key, -1);
    if (!added) return c_.builder_.Refer(it->second);
    const GrammarBuilder::Rule rule = it->second = c_.builder_.NewRule("counted items");
    RETURN_IF_ERROR(c_.formulas_.CheckTime());
    std::vector<Expr> ways;
    bool enough = index >= min_;
    for (size_t i = 0; i < counts_.size(); ++i) enough = enough && met[i] >= counts_[i]->min;
    if (enough) ways.push_back(Close(index));
    if (max_ < 0 || index < max_) {
      for (uint32_t choice = 0; choice < (1u << counts_.size()); ++choice) {
        Literals literals = LiteralsAt(index);
        std::vector<int64_t> now = met;
        bool possible = true;
        for (size_t i = 0; i < counts_.size(); ++i) {
          const Condition& count = *counts_[i];
          const bool counted = (choice >> i & 1) != 0;
          if (index < count.first) {
            possible = possible && !counted;
            continue;
          }
          if (counted) {
            literals.push_back(count.literal);
            ++now[i];
            if (count.max >= 0) {
              possible = possible && now[i] <= count.max;
            } else {
              now[i] = std::min(now[i], count.min);
            }
          } else if (count.max >= 0) {
            literals.push_back(!count.literal);  // else it matters not whether it would count
          }
        }
        if (!possible) continue;
        const Expr value = c_.ValueOf(std::move(literals));
        if (value == GrammarBuilder::kNothing) continue;
        ASSIGN_OR_RETURN(const Expr rest, Counting(index + 1, now));
        ways.push_back(c_.builder_.Sequence({Item(index, value), rest}));
      }
    }
    c_.builder_.Define(rule, c_.builder_.Choice(std::move(ways)));
    return c_.builder_.Refer(rule);
  }

  SchemaCompiler& c_;
  int32_t node_ = 0;
  int64_t min_ = 0, max_ = -1, num_prefix_ = 0;
  std::vector<const Condition*> items_, counts_;
  const Condition* unique_ = nullptr;
  std::map<std::pair<int64_t, std::vector<int64_t>>, GrammarBuilder::Rule> rules_;
};

absl::StatusOr<SchemaCompiler::Expr> SchemaCompiler::MakeArray(int32_t formula) {
  ASSIGN_OR_RETURN(const std::vector<Formulas::Conjunction> alternatives,
                   formulas_.Alternatives(formula));
  std::vector<Expr> options;
  for (const Formulas::Conjunction& conditions : alternatives) {
    ASSIGN_OR_RETURN(const Expr items, ArrayShape(this).Make(conditions));
    options.push_back(items);
  }
  return builder_.Sequence({Text("["), blank_, builder_.Choice(std::move(options))});
}

}  // namespace penstock::grammar
