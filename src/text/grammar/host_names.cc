#include "text/grammar/host_names.h"

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "text/grammar/pattern.h"

namespace penstock::grammar {
namespace {

constexpr int kMostLabel = 63, kMostName = kMostHostName;
constexpr int kExactLabels = 4;
// Of four labels the first three may take all but 61 characters of the name, with their dots.
constexpr int kLackOfThree = kExactLabels * (kMostLabel + 1) - 1 - kMostName;
// Longer names are counted in steps of so many characters, each label rounded up.
constexpr int kHostStep = 4;
constexpr int kMostSteps = (kMostName + 1) / kHostStep;

enum HostChar { kLabelChar, kLabelHyphen, kLabelDot, kNoHostChar };

/// What is known of a name's begin.
struct HostState {
  int label = 0;  // which one is open
  int lack =
      0;  // characters by which those before are shorter than they may be, kLackOfThree at most
  int steps = 0;        // that those before took
  int length = 0;       // of the open one
  bool hyphen = false;  // it came last

  auto Key() const { return std::tuple(label, lack, steps, length, hyphen); }
  friend bool operator<(const HostState& a, const HostState& b) { return a.Key() < b.Key(); }

  int steps_with_open() const { return steps + (length + kHostStep) / kHostStep; }  // and its dot
  bool few_labels() const {
    return label < kExactLabels - 1 ||
           (label == kExactLabels - 1 && length <= kMostLabel - kLackOfThree + lack);
  }
  bool possible() const {
    return length <= kMostLabel && (few_labels() || steps_with_open() <= kMostSteps);
  }
};

std::optional<HostState> AfterHostChar(HostState s, HostChar kind) {
  if (kind == kNoHostChar || (s.length == 0 && kind != kLabelChar)) return std::nullopt;
  if (kind == kLabelDot) {
    if (s.hyphen) return std::nullopt;
    s = {std::min(s.label + 1, kExactLabels),
         std::min(s.lack + kMostLabel - s.length, kLackOfThree), s.steps_with_open(), 0, false};
    if (s.label == kExactLabels) s.lack = 0;  // counted by steps from here on
    s.steps = std::min(s.steps, kMostSteps + 1);
  } else {
    ++s.length;
    s.hyphen = kind == kLabelHyphen;
  }
  if (!s.possible()) return std::nullopt;
  return s;
}

}  // namespace

CharAutomaton HostNames() {
  CharSet letters{{'0', '9'}, {'A', 'Z'}, {'a', 'z'}}, hyphen{{'-', '-'}}, dot{{'.', '.'}};
  CharClassTable classes = CharClassTable::Of({letters, hyphen, dot});
  std::vector<HostChar> kinds(classes.size(), kNoHostChar);
  for (const auto& [set, kind] : {std::pair(letters, kLabelChar), std::pair(hyphen, kLabelHyphen),
                                  std::pair(dot, kLabelDot)}) {
    for (const int32_t cls : classes.ClassesOf(set)) kinds[cls] = kind;
  }
  std::map<HostState, int32_t> ids{{HostState(), 0}};
  std::vector<HostState> states{HostState()};
  std::vector<int32_t> next;
  std::vector<uint8_t> accepts;
  for (size_t i = 0; i < states.size(); ++i) {
    const HostState state = states[i];
    accepts.push_back(state.length > 0 && !state.hyphen ? 1 : 0);
    for (const HostChar kind : kinds) {
      const std::optional<HostState> to = AfterHostChar(state, kind);
      if (!to) {
        next.push_back(CharAutomaton::kDead);
        continue;
      }
      const auto [it, added] = ids.try_emplace(*to, static_cast<int32_t>(states.size()));
      if (added) states.push_back(*to);
      next.push_back(it->second);
    }
  }
  return CharAutomaton(std::move(classes), std::move(next), std::move(accepts)).Minimized();
}

CharAutomaton HostLabels() {
  constexpr const char* kLabel = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
  static const auto& made = *new absl::StatusOr<CharAutomaton>(
      CompilePattern(absl::StrCat(kLabel, "(?:\\.", kLabel, ")*"), PatternUse::kWhole));
  CHECK(made.ok());
  return *made;
}

}  // namespace penstock::grammar
