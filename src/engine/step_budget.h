// How many positions of prompts a step may compute so that streams stay smooth: what a step takes
// is learned from the steps that were run.
// Owns one average. Must not know sequences.
// Threads: confined to the engine thread.
#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "engine/step_costs.h"

namespace penstock {

class StepBudget {
 public:
  /// Steps shall take `target`; zero: no matter how long. `decode_costs` are those of steps that
  /// decode and do nothing else; it outlives this.
  StepBudget(absl::Duration target, const StepCosts* decode_costs)
      : target_(absl::ToDoubleSeconds(target)), decode_costs_(decode_costs) {}

  /// For a step in which `decodes` positions are computed for streams, while `prompts` wait to be
  /// read: a multiple of 16 of at least one, that fits `most`. One prompt keeps to the
  /// target. The more wait behind it for each stream the longer a step may take, up to four times
  /// the target: else streams would be smooth and first tokens would never come.
  int32_t PromptPositions(int32_t decodes, int32_t prompts, int32_t most) const;
  /// What a position of a prompt adds to a step, in seconds; 0: not known yet.
  double position_seconds() const { return per_position_; }
  /// A step of so many positions took `seconds`; some are of prompts.
  void Observe(int32_t decodes, int32_t prompt_positions, double seconds);

 private:
  double target_;
  const StepCosts* decode_costs_;
  double per_position_ = 0;  // what a position of a prompt adds; 0: not known yet
  int32_t count_ = 0;        // steps that went into it
};

}  // namespace penstock
