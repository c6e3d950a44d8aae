#include "engine/draft_pace.h"

#include <algorithm>

#include "engine/guess_rules.h"

namespace penstock {
namespace {

constexpr int32_t kFirstDrafts = 4;  // before anything is measured
constexpr int32_t kEnough = 3;       // steps that a cost is believed after
constexpr int32_t kShortestInterval = 128;
constexpr int32_t kLongestInterval = 4096;
constexpr int64_t kStale = 512;  // plans after which a cost is learned anew

}  // namespace

/// Where nothing was measured: on the line through the nearest numbers of guesses that were, as each
/// guess is one more pass of the same model.
double DraftPace::Seconds(int32_t num_decodes, int32_t num_drafts) const {
  int32_t below = -1;
  int32_t above = -1;
  for (int32_t k = 0; k < static_cast<int32_t>(costs_.size()); ++k) {
    if (num_observed_[k] == 0) continue;
    if (k == num_drafts) return costs_[k].Seconds(num_decodes);
    if (k < num_drafts) below = k;
    if (k > num_drafts && above < 0) above = k;
  }
  if (above < 0 && below > 0) {  // beyond all: from the two largest
    above = below;
    for (below = above - 1; below >= 0 && num_observed_[below] == 0;) --below;
  }
  if (below < 0 || above < 0) return 0;
  const double a = costs_[below].Seconds(num_decodes);
  const double b = costs_[above].Seconds(num_decodes);
  return std::max(a, a + (b - a) * (num_drafts - below) / (above - below));
}

int32_t DraftPace::Choose(absl::Span<const double> rates, bool with_prompts) {
  const auto n = static_cast<int32_t>(rates.size());
  const auto max_drafts = static_cast<int32_t>(costs_.size()) - 1;
  if (n == 0) return 0;
  const int32_t first = std::min(kFirstDrafts, max_drafts);
  if (with_prompts && (num_observed_[first] == 0 || num_observed_[0] == 0)) return 0;
  ++num_plans_;
  if (num_observed_[first] == 0 || (num_observed_[0] == 0 && num_observed_[first] < kEnough))
    return first;
  if (num_observed_[0] == 0) return 0;
  if (num_other_ > 0 && !with_prompts) {
    --num_other_;
    return other_;
  }
  std::vector<double> chances(rates.begin(), rates.end());
  double expected = n;
  const double plain = Seconds(n, 0);
  if (plain <= 0) return first;
  double most = kLeastGain * expected / plain;
  double most_of_any = 0;
  int32_t best = 0;
  int32_t best_of_any = 1;
  for (int32_t k = 1; k <= max_drafts; ++k) {
    for (size_t i = 0; i < chances.size(); ++i) {
      expected += chances[i];
      chances[i] *= rates[i];
    }
    const double speed = expected / std::max(plain, Seconds(n, k));
    if (speed > most_of_any) {
      most_of_any = speed;
      best_of_any = k;
    }
    if (speed > most) {
      most = speed;
      best = k;
    }
  }
  if (pays_ != (best > 0)) {
    pays_ = best > 0;
    interval_ = kShortestInterval;
    since_other_ = 0;
  }
  if (with_prompts || ++since_other_ < interval_) return best;
  since_other_ = 0;
  if (!pays_) {  // do they still cost time?
    interval_ = std::min(2 * interval_, kLongestInterval);
    other_ = best_of_any;
  } else {  // what does a step take without them, or with one more?
    tries_more_ = !tries_more_ && best < max_drafts;
    other_ = tries_more_ ? best + 1 : 0;
  }
  num_other_ = kEnough - 1;
  return other_;
}

void DraftPace::ObserveGuesses(int32_t num_drafts, int32_t num_right, double& rate) {
  for (int32_t i = 0; i < num_drafts && i <= num_right; ++i) {
    const double right = i < num_right ? 1.0 : 0.0;
    rate += kSequenceWeight * (right - rate);
    rate_ += kModelWeight * (right - rate_);
  }
}

void DraftPace::ObserveStep(int32_t num_decodes, int32_t num_drafts, double seconds) {
  if (num_drafts < 0 || num_drafts >= static_cast<int32_t>(costs_.size())) return;
  if (num_plans_ - last_seen_[num_drafts] > kStale) {
    costs_[num_drafts] = StepCosts();
    num_observed_[num_drafts] = 0;
  }
  last_seen_[num_drafts] = num_plans_;
  costs_[num_drafts].Observe(num_decodes, seconds);
  ++num_observed_[num_drafts];
}

}  // namespace penstock
