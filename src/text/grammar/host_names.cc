#include "text/grammar/host_names.h"

#include <array>
#include <limits>
#include <utility>
#include <vector>

#include "text/grammar/compile_time.h"

namespace penstock::grammar {
namespace {

constexpr const char* kTooLargeHosts = "names of hosts with more conditions are too large";
constexpr size_t kQuick = 40'000;  // states, which any name of a host takes less than
constexpr int32_t kNoEnd = std::numeric_limits<int32_t>::max();

/// Of each state, the characters up to the nearest end.
std::vector<int32_t> DistancesToEnd(const CharAutomaton& texts) {
  std::vector<std::vector<int32_t>> sources(static_cast<size_t>(texts.num_states()));
  std::vector<int32_t> distances(sources.size(), kNoEnd), work;
  for (int32_t s = 0; s < texts.num_states(); ++s) {
    for (int32_t c = 0; c < texts.classes().size(); ++c) {
      const int32_t to = texts.Next(s, c);
      if (to != CharAutomaton::kDead) sources[to].push_back(s);
    }
    if (!texts.accepts(s)) continue;
    distances[s] = 0;
    work.push_back(s);
  }
  for (size_t i = 0; i < work.size(); ++i) {
    for (const int32_t from : sources[work[i]]) {
      if (distances[from] != kNoEnd) continue;
      distances[from] = distances[work[i]] + 1;
      work.push_back(from);
    }
  }
  return distances;
}

}  // namespace

absl::StatusOr<ByteAutomaton> ShortTexts(const CharAutomaton& texts, int64_t max) {
  const std::vector<int32_t> distances = DistancesToEnd(texts);
  // Bytes: other than ASCII, those of each class of `texts`, the quote.
  const auto num_classes = static_cast<size_t>(texts.classes().size()) + 2;
  const size_t quote = num_classes - 1;
  if (num_classes > 200) return absl::ResourceExhaustedError(kTooLargeHosts);
  std::array<uint8_t, 256> class_of{};
  for (uint32_t c = 0; c < 0x80; ++c) class_of[c] = static_cast<uint8_t>(texts.classes().of(c) + 1);
  class_of['"'] = static_cast<uint8_t>(quote);
  std::vector<int32_t> next;
  std::vector<uint8_t> accepts;
  const auto add = [&](bool ends) {
    next.resize(next.size() + num_classes, ByteAutomaton::kDead);
    accepts.push_back(ends ? 1 : 0);
    return static_cast<int32_t>(accepts.size()) - 1;
  };
  add(false);
  const int32_t end = add(true);  // behind the closing quote
  // The states of texts of `used` characters, and their numbers.
  std::vector<int32_t> at(distances.size(), ByteAutomaton::kDead), at_next = at;
  std::vector<int32_t> states, states_next;
  const CompileTime time;
  if (distances[0] <= max) {
    states = {0};
    at[0] = add(false);
    next[quote] = at[0];
  }
  for (int64_t used = 0; !states.empty(); ++used) {
    for (const int32_t state : states) {
      const size_t row = static_cast<size_t>(at[state]) * num_classes;
      if (texts.accepts(state)) next[row + quote] = end;
      for (size_t cls = 1; cls < quote; ++cls) {
        const int32_t to = texts.Next(state, static_cast<int32_t>(cls) - 1);
        if (to == CharAutomaton::kDead || distances[to] == kNoEnd || used + 1 + distances[to] > max)
          continue;
        if (at_next[to] == ByteAutomaton::kDead) {
          at_next[to] = add(false);
          states_next.push_back(to);
        }
        next[row + cls] = at_next[to];
      }
    }
    const bool late = accepts.size() > kQuick && time.over();
    if (late || accepts.size() > ByteAutomaton::kMaxStates)
      return absl::ResourceExhaustedError(kTooLargeHosts);
    at.assign(at.size(), ByteAutomaton::kDead);
    at.swap(at_next);
    states.swap(states_next);
    states_next.clear();
  }
  return ByteAutomaton(class_of, std::move(next), std::move(accepts));
}

}  // namespace penstock::grammar
