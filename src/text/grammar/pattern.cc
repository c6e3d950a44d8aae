#include "text/grammar/pattern.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "text/grammar/pattern_syntax.h"

namespace penstock::grammar {
namespace {

using PatternKind = PatternNode::Kind;

constexpr size_t kMaxPatternStates = 50'000;
constexpr size_t kMaxPatternWork = 20'000'000;

absl::Status PatternTooLarge() {
  return absl::ResourceExhaustedError("the pattern's automaton is too large");
}

/// Thompson's construction; `^` and `$` are edges that only the ends of a text open.
struct PatternNfa {
  enum class Edge : uint8_t { kFree, kBegin, kEnd };
  struct State {
    int32_t set = -1;  // >= 0: `to` is reached by a code point of this set
    int32_t to = -1;
    std::vector<std::pair<Edge, int32_t>> free;
  };
  std::vector<State> states;
  std::vector<CharSet> sets;

  int32_t Add() {
    states.emplace_back();
    return static_cast<int32_t>(states.size()) - 1;
  }
  void Link(int32_t from, int32_t to, Edge edge = Edge::kFree) {
    states[from].free.emplace_back(edge, to);
  }
};

class NfaBuilder {
 public:
  explicit NfaBuilder(const PatternTree& tree) : tree_(tree) {}

  /// States from `from` on whose words match `node`; the state after them.
  absl::StatusOr<int32_t> Build(int32_t node, int32_t from) {
    if (nfa_.states.size() > kMaxPatternStates) return PatternTooLarge();
    const PatternNode& n = tree_.nodes[node];
    switch (n.kind) {
      case PatternKind::kSet: {
        nfa_.states[from].set = SetIndex(n.set);
        const int32_t to = nfa_.Add();
        nfa_.states[from].to = to;
        return to;
      }
      case PatternKind::kSequence: {
        for (const int32_t child : n.children) {
          ASSIGN_OR_RETURN(from, Build(child, from));
        }
        return from;
      }
      case PatternKind::kChoice: {
        const int32_t end = nfa_.Add();
        for (const int32_t child : n.children) {
          const int32_t begin = nfa_.Add();
          nfa_.Link(from, begin);
          ASSIGN_OR_RETURN(const int32_t last, Build(child, begin));
          nfa_.Link(last, end);
        }
        return end;
      }
      case PatternKind::kRepeat:
        return BuildRepeat(n, from);
      case PatternKind::kBegin:
      case PatternKind::kEnd: {
        const int32_t to = nfa_.Add();
        nfa_.Link(
            from, to,
            n.kind == PatternKind::kBegin ? PatternNfa::Edge::kBegin : PatternNfa::Edge::kEnd);
        return to;
      }
      default:
        return absl::UnimplementedError(
            "the pattern looks ahead elsewhere than at its start: not supported");
    }
  }

  PatternNfa& nfa() { return nfa_; }

 private:
  int32_t SetIndex(const CharSet& set) {
    const auto it = std::find(nfa_.sets.begin(), nfa_.sets.end(), set);
    const auto index = static_cast<int32_t>(it - nfa_.sets.begin());
    if (it == nfa_.sets.end()) nfa_.sets.push_back(set);
    return index;
  }

  absl::StatusOr<int32_t> BuildRepeat(const PatternNode& n, int32_t from) {
    const int32_t child = n.children[0];
    for (int64_t i = 0; i < n.min; ++i) {
      const int32_t begin = nfa_.Add();
      nfa_.Link(from, begin);
      ASSIGN_OR_RETURN(from, Build(child, begin));
    }
    const int32_t end = nfa_.Add();
    nfa_.Link(from, end);
    if (n.max < 0) {
      const int32_t begin = nfa_.Add();
      nfa_.Link(from, begin);
      ASSIGN_OR_RETURN(const int32_t last, Build(child, begin));
      nfa_.Link(last, begin);
      nfa_.Link(last, end);
      return end;
    }
    for (int64_t i = n.min; i < n.max; ++i) {
      const int32_t begin = nfa_.Add();
      nfa_.Link(from, begin);
      ASSIGN_OR_RETURN(from, Build(child, begin));
      nfa_.Link(from, end);
    }
    return end;
  }

  const PatternTree& tree_;
  PatternNfa nfa_;
};

/// The subset construction.
class Determinizer {
 public:
  Determinizer(const PatternNfa& nfa, int32_t start, int32_t end, PatternUse use)
      : nfa_(nfa), start_(start), end_(end), use_(use), marks_(nfa.states.size(), 0) {}

  absl::StatusOr<CharAutomaton> Run() {
    CharClassTable classes = CharClassTable::Of(nfa_.sets);
    const auto n = static_cast<size_t>(classes.size());
    std::vector<std::vector<int32_t>> classes_of;
    for (const CharSet& set : nfa_.sets) classes_of.push_back(classes.ClassesOf(set));
    if (use_ == PatternUse::kSearch) search_ = Closure({start_}, false, false);
    std::vector<std::vector<int32_t>> subsets;
    absl::flat_hash_map<std::vector<int32_t>, int32_t> ids;
    const auto id_of = [&](std::vector<int32_t> subset) {
      const auto [it, added] =
          ids.try_emplace(std::move(subset), static_cast<int32_t>(subsets.size()));
      if (added) subsets.push_back(it->first);
      return it->second;
    };
    // The first state is apart: only there the text begins.
    std::vector<int32_t> first = Closure({start_}, true, false);
    first.push_back(-1);
    id_of(std::move(first));
    std::vector<int32_t> next;
    std::vector<uint8_t> accepts;
    std::vector<std::vector<int32_t>> targets(n);
    for (size_t s = 0; s < subsets.size(); ++s) {
      const bool begins = s == 0;
      std::vector<int32_t> subset = subsets[s];
      if (begins) subset.pop_back();
      const bool matched = use_ == PatternUse::kSearch &&
                           std::find(subset.begin(), subset.end(), end_) != subset.end();
      const std::vector<int32_t> at_end = Closure(subset, begins, true);
      accepts.push_back(std::find(at_end.begin(), at_end.end(), end_) != at_end.end() ? 1 : 0);
      for (std::vector<int32_t>& t : targets) t.clear();
      for (const int32_t state : subset) {
        if (nfa_.states[state].set < 0) continue;
        for (const int32_t cls : classes_of[nfa_.states[state].set])
          targets[cls].push_back(nfa_.states[state].to);
        work_ += classes_of[nfa_.states[state].set].size();
      }
      for (size_t c = 0; c < n; ++c) {
        std::vector<int32_t> to;
        if (matched) {
          to = {end_};  // whatever follows, there was a match
        } else {
          to = Closure(targets[c], false, false);
          if (use_ == PatternUse::kSearch) {
            to.insert(to.end(), search_.begin(), search_.end());
            std::sort(to.begin(), to.end());
            to.erase(std::unique(to.begin(), to.end()), to.end());
            work_ += to.size();
          }
        }
        next.push_back(to.empty() ? CharAutomaton::kDead : id_of(std::move(to)));
      }
      if (work_ > kMaxPatternWork || subsets.size() > CharAutomaton::kMaxStates)
        return PatternTooLarge();
    }
    return CharAutomaton(std::move(classes), std::move(next), std::move(accepts)).Minimized();
  }

 private:
  std::vector<int32_t> Closure(const std::vector<int32_t>& states, bool begins, bool ends) {
    ++mark_;
    std::vector<int32_t> out;
    const auto take = [&](int32_t s) {
      if (std::exchange(marks_[s], mark_) != mark_) out.push_back(s);
    };
    for (const int32_t s : states) take(s);
    for (size_t i = 0; i < out.size(); ++i) {
      for (const auto& [edge, to] : nfa_.states[out[i]].free) {
        ++work_;
        if (edge == PatternNfa::Edge::kBegin && !begins) continue;
        if (edge == PatternNfa::Edge::kEnd && !ends) continue;
        take(to);
      }
    }
    // What leads nowhere by a code point or an end says nothing.
    std::erase_if(out, [&](int32_t s) {
      const PatternNfa::State& state = nfa_.states[s];
      return s != end_ && state.set < 0 &&
             std::none_of(state.free.begin(), state.free.end(),
                          [](const auto& edge) { return edge.first != PatternNfa::Edge::kFree; });
    });
    Sort(out);
    return out;
  }

  void Sort(std::vector<int32_t>& states) {
    constexpr size_t kFew = 16;
    if (states.size() < marks_.size() / kFew) {
      std::sort(states.begin(), states.end());
      return;
    }
    ++mark_;
    for (const int32_t s : states) marks_[s] = mark_;
    states.clear();
    for (size_t s = 0; s < marks_.size(); ++s) {
      if (marks_[s] == mark_) states.push_back(static_cast<int32_t>(s));
    }
  }

  const PatternNfa& nfa_;
  const int32_t start_, end_;
  const PatternUse use_;
  std::vector<int32_t> search_;  // where a match may begin after the text's begin
  std::vector<uint32_t> marks_;
  uint32_t mark_ = 0;
  size_t work_ = 0;
};

absl::StatusOr<CharAutomaton> CompileTree(const PatternTree& tree, int32_t root, PatternUse use) {
  NfaBuilder builder(tree);
  const int32_t start = builder.nfa().Add();
  ASSIGN_OR_RETURN(const int32_t end, builder.Build(root, start));
  return Determinizer(builder.nfa(), start, end, use).Run();
}

/// Looks ahead at the start, as ^(?!...) does: conditions on the whole text.
struct StartConditions {
  bool anchored = false;
  std::vector<std::pair<int32_t, bool>> ahead;  // (node of what is looked for, must it be there)
};

void TakeStartConditions(PatternTree& tree, StartConditions& conditions) {
  int32_t at = tree.root;
  while (tree.nodes[at].kind == PatternKind::kSequence && tree.nodes[at].children.size() == 1)
    at = tree.nodes[at].children[0];
  PatternNode& top = tree.nodes[at];
  if (top.kind != PatternKind::kSequence) return;
  size_t num_taken = 0;
  for (const int32_t child : top.children) {
    const PatternNode& n = tree.nodes[child];
    if (n.kind == PatternKind::kBegin) {
      conditions.anchored = true;
    } else if ((n.kind == PatternKind::kAhead || n.kind == PatternKind::kNotAhead) &&
               conditions.anchored) {
      conditions.ahead.emplace_back(n.children[0], n.kind == PatternKind::kAhead);
    } else {
      break;
    }
    ++num_taken;
  }
  if (conditions.ahead.empty()) return;
  std::vector<int32_t> rest(top.children.begin() + static_cast<ptrdiff_t>(num_taken),
                            top.children.end());
  tree.nodes.push_back({PatternKind::kBegin, {}, {}, 0, -1});
  rest.insert(rest.begin(), static_cast<int32_t>(tree.nodes.size()) - 1);
  tree.nodes[at].children = std::move(rest);
}

}  // namespace

absl::StatusOr<CharAutomaton> CompilePattern(std::string_view pattern, PatternUse use,
                                             PatternFlags flags) {
  ASSIGN_OR_RETURN(PatternTree tree, ParsePattern(pattern, flags));
  StartConditions conditions;
  conditions.anchored = use == PatternUse::kWhole;
  TakeStartConditions(tree, conditions);
  ASSIGN_OR_RETURN(CharAutomaton out, CompileTree(tree, tree.root, use));
  for (const auto& [node, wanted] : conditions.ahead) {
    tree.nodes.push_back({PatternKind::kBegin, {}, {}, 0, -1});
    const auto begin = static_cast<int32_t>(tree.nodes.size()) - 1;
    tree.nodes.push_back({PatternKind::kSequence, {}, {begin, node}, 0, -1});
    ASSIGN_OR_RETURN(
        CharAutomaton ahead,
        CompileTree(tree, static_cast<int32_t>(tree.nodes.size()) - 1, PatternUse::kSearch));
    ASSIGN_OR_RETURN(out, CharAutomaton::And(out, wanted ? ahead : ahead.Not()));
  }
  return out;
}

}  // namespace penstock::grammar
