#include "engine/step_budget.h"

#include <algorithm>

namespace penstock {
namespace {

constexpr int32_t kUnit = 16;         // positions: what kernels take together, and a block
constexpr int32_t kFirst = 64;        // while nothing is known
constexpr int32_t kBudgetMemory = 8;  // steps that the average is made of
constexpr double kBudgetOutlier =
    3;  // a step that took longer than so many averages counts as so many
constexpr double kMostTargets = 4;

}  // namespace

int32_t StepBudget::PromptPositions(int32_t decodes, int32_t prompts, int32_t most) const {
  if (target_ <= 0) return most;
  if (count_ == 0) return std::min(kFirst, most);
  const double queue = 4.0 * (prompts - 1);  // who waits for a first token weighs four streams
  const double targets =
      decodes == 0 ? kMostTargets : std::clamp(1 + queue / decodes, 1.0, kMostTargets);
  const double of_decodes = decodes == 0 ? 0 : decode_costs_->Seconds(decodes);
  const double seconds = std::max(0.0, targets * target_ - of_decodes);
  const double positions = std::min(seconds / per_position_, double{1 << 24});
  const int32_t units = std::max(1, static_cast<int32_t>(positions) / kUnit);
  return std::min(units * kUnit, most);
}

void StepBudget::Observe(int32_t decodes, int32_t prompt_positions, double seconds) {
  // A few positions say more about the rest of the step than about themselves.
  if (prompt_positions < kUnit && count_ > 0) return;
  const double rest = decodes == 0 ? 0 : decode_costs_->Seconds(decodes);
  double each = std::max(seconds - rest, 0.1 * seconds) / prompt_positions;
  if (count_ > 2) each = std::min(each, kBudgetOutlier * per_position_);
  count_ = std::min(count_ + 1, kBudgetMemory);
  per_position_ += (each - per_position_) / count_;
}

}  // namespace penstock
