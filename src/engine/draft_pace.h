// How many tokens a draft model guesses for each sequence of a step: as many as give the most tokens
// per second, none where they cost time.
// Owns what was learned of times and of right guesses. Must not know blocks, slots or executors.
// Threads: confined to the engine thread.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/step_costs.h"

namespace penstock {

class DraftPace {
 public:
  explicit DraftPace(int32_t max_drafts) : costs_(max_drafts + 1) {}

  /// The chance that a guess is right whose predecessors are, where nothing is known of a sequence.
  double start_rate() const { return rate_; }
  /// Guesses for each sequence of a step in which sequences of these `rates` decode. 0 for now, too,
  /// where it must be seen anew what a step without guesses takes. Beside prompts, whose steps teach
  /// nothing, none before there is a measurement, and nothing is tried.
  int32_t Choose(absl::Span<const double> rates, bool with_prompts);
  /// Whether guesses have paid lately, so that the draft model should keep up with prompts.
  bool pays() const { return pays_; }
  /// Of `num_drafts` guesses the first `num_right` were right: moves the sequence's rate.
  void ObserveGuesses(int32_t num_drafts, int32_t num_right, double& rate);
  /// A step in which `num_decodes` sequences decoded with so many guesses each, and no more.
  void ObserveStep(int32_t num_decodes, int32_t num_drafts, double seconds);

 private:
  double Seconds(int32_t num_decodes, int32_t num_drafts) const;

  std::vector<StepCosts> costs_;  // by guesses for each sequence
  std::vector<int32_t> num_observed_ = std::vector<int32_t>(costs_.size());
  std::vector<int64_t> last_seen_ = std::vector<int64_t>(costs_.size());
  int64_t num_plans_ = 0;
  double rate_ = 0.7;
  bool pays_ = true;
  // Now and then a few plans try another number of guesses.
  int32_t since_other_ = 0;
  int32_t interval_ = 128;
  int32_t other_ = 0;
  int32_t num_other_ = 0;  // such plans that are left
  bool tries_more_ = false;
};

}  // namespace penstock
