#include "engine/speculator.h"

#include <algorithm>

#include "engine/guess_rules.h"

namespace penstock {
namespace {

constexpr int64_t kMostCaughtUp =
    4096;                             // tokens indexed in one call, so that no prompt stalls a step
constexpr double kLeastChance = 0.1;  // a less likely guess is not worth a row
constexpr double kLikely = 0.5;
constexpr int32_t kRestInterval = 64;  // plans with drafts between two without
constexpr int32_t kShortestProbeInterval = 64;
constexpr int32_t kLongestProbeInterval = 4096;

}  // namespace

void Speculator::StartPlan(int32_t num_decodes, bool with_prompts) {
  num_drafted_ = rests_ ? 0 : num_drafted_ + (drafted_ ? 1 : 0);
  rests_ = num_drafted_ >= kRestInterval;
  if (drafted_ && probes_) {
    probe_interval_ = std::min(2 * probe_interval_, kLongestProbeInterval);
    num_refused_ = 0;
  } else if (drafted_) {
    probe_interval_ = kShortestProbeInterval;
    num_refused_ = 0;
  } else if (refused_) {
    ++num_refused_;
  }
  probes_ = num_refused_ >= probe_interval_;
  drafted_ = refused_ = false;
  rows_ = num_decodes;
  expected_ = num_decodes;
  with_prompts_ = with_prompts;
}

TokenId Speculator::Predict(absl::Span<const TokenId> tokens, const DraftState& state,
                            int32_t ahead) const {
  if (PrefersOwn(state)) return state.own.Predict(tokens, ahead);
  if (state.other.length == 0) return -1;
  return history_.Predict(state.root, state.other, ahead);
}

/// Follows the sequence to its newest known token. False where that takes another call.
bool Speculator::CatchUp(absl::Span<const TokenId> tokens, int32_t num_prompt, DraftState& state) {
  const auto known = static_cast<int64_t>(tokens.size());
  const int64_t end = std::min(known, state.own.num_seen() + kMostCaughtUp);
  for (int64_t i = state.own.num_seen(); i < end; ++i) {
    const absl::Span<const TokenId> past = tokens.first(i);
    if (i >= num_prompt) {
      const TokenId predicted = Predict(past, state, 0);
      const int32_t length = PrefersOwn(state) ? state.own.match().length : state.other.length;
      if (predicted >= 0) {
        state.rates.Observe(length, predicted == tokens[i], kSequenceWeight);
        rates_.Observe(length, predicted == tokens[i], kModelWeight);
      }
    }
    state.own.Advance(tokens.first(i + 1));
    if (i + 1 >= num_prompt) history_.Follow(state.root, tokens.first(i + 1), state.other);
  }
  return end == known;
}

std::vector<Speculator::Guess> Speculator::GuessesAfter(absl::Span<const TokenId> tokens,
                                                        int32_t num_in_flight, int32_t room,
                                                        const DraftState& state) const {
  std::vector<Guess> guesses;
  const int32_t length = PrefersOwn(state) ? state.own.match().length : state.other.length;
  if (length == 0) return guesses;
  double chance = 1;
  double expected = 0;
  for (int32_t ahead = 0; ahead < num_in_flight + room; ++ahead) {
    chance *= state.rates.Of(length + ahead);
    if (chance < kLeastChance) break;
    if (ahead < num_in_flight) continue;  // must be right as well, but is already being computed
    const TokenId token = Predict(tokens, state, ahead);
    if (token < 0) break;
    expected += chance;
    guesses.push_back({token, expected, chance});
  }
  return guesses;
}

/// How many of the guesses give the most tokens per second.
size_t Speculator::NumThatPay(const std::vector<Guess>& guesses) {
  size_t num_likely = 0;
  while (num_likely < guesses.size() && guesses[num_likely].chance >= kLikely) ++num_likely;
  const double now = costs_->Seconds(rows_);
  // Beside prompts a draft takes a row from them, and no time; before any measurement one is needed.
  if (with_prompts_ || now <= 0 || probes_) return num_likely;
  double best = kLeastGain * expected_ / now;
  size_t count = 0;
  for (size_t n = 1; n <= guesses.size(); ++n) {
    const double seconds = std::max(now, costs_->Seconds(rows_ + static_cast<int32_t>(n)));
    const double value = (expected_ + guesses[n - 1].expected) / seconds;
    if (value <= best) continue;
    best = value;
    count = n;
  }
  refused_ = refused_ || (count == 0 && num_likely > 0);
  return count;
}

std::vector<TokenId> Speculator::Propose(absl::Span<const TokenId> tokens, int32_t num_prompt,
                                         int32_t num_in_flight, int32_t room, DraftState& state) {
  if (!CatchUp(tokens, num_prompt, state) || rests_) return {};
  const std::vector<Guess> guesses =
      GuessesAfter(tokens, num_in_flight, std::min(room, options_.max_tokens), state);
  const size_t count = guesses.empty() ? 0 : NumThatPay(guesses);
  std::vector<TokenId> drafts;
  if (count == 0) return drafts;
  for (size_t i = 0; i < count; ++i) drafts.push_back(guesses[i].token);
  rows_ += static_cast<int32_t>(count);
  expected_ += guesses[count - 1].expected;
  drafted_ = true;
  return drafts;
}

void Speculator::Remember(const Hash128& root, absl::Span<const TokenId> tokens,
                          int32_t num_prompt) {
  // The end of the prompt as well: an answer may be found by the question's last words.
  history_.Append(root, tokens.subspan(std::max(0, num_prompt - options_.min_match)));
}

}  // namespace penstock
