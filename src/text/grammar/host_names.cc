#include "text/grammar/host_names.h"

#include <array>
#include <limits>
#include <utility>
#include <vector>

namespace penstock::grammar {
namespace {

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
  using HostRow = std::array<int32_t, 256>;
  HostRow none;
  none.fill(ByteAutomaton::kDead);
  constexpr int32_t kEnd = 1;  // behind the closing quote
  std::vector<HostRow> rows(2, none);
  std::vector<uint8_t> accepts = {0, 1};
  // The states of texts of `used` characters have these numbers.
  std::vector<int32_t> at(distances.size(), ByteAutomaton::kDead), next = at;
  std::vector<int32_t> states, states_next;
  const auto number = [&](int32_t state, std::vector<int32_t>& numbers, std::vector<int32_t>& of) {
    if (numbers[state] != ByteAutomaton::kDead) return numbers[state];
    numbers[state] = static_cast<int32_t>(rows.size());
    of.push_back(state);
    rows.push_back(none);
    accepts.push_back(0);
    return numbers[state];
  };
  if (distances[0] <= max) rows[0]['"'] = number(0, at, states);
  for (int64_t used = 0; !states.empty(); ++used) {
    for (const int32_t state : states) {
      HostRow row = none;
      if (texts.accepts(state)) row['"'] = kEnd;
      for (const CharClassTable::Run& run : texts.classes().runs()) {
        const int32_t to = texts.Next(state, run.cls);
        if (to == CharAutomaton::kDead || distances[to] == kNoEnd || used + 1 + distances[to] > max)
          continue;
        const int32_t target = number(to, next, states_next);
        for (uint32_t c = run.low; c <= run.high && c < 0x80; ++c) row[c] = target;
      }
      rows[at[state]] = row;
    }
    if (rows.size() > ByteAutomaton::kMaxStates)
      return absl::ResourceExhaustedError("names of hosts with more conditions are too large");
    at.assign(at.size(), ByteAutomaton::kDead);
    at.swap(next);
    states.swap(states_next);
    states_next.clear();
  }
  return ByteAutomaton(rows, std::move(accepts));
}

}  // namespace penstock::grammar
