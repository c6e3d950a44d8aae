// Scheduler: when blocks of the second tier are worth their copy, and how many a step has time for.
#include <algorithm>

#include "engine/scheduler.h"

namespace penstock {

bool Scheduler::TakeCached(Sequence& seq) {
  ReconsiderImports(seq);
  for (;;) {
    while (!seq.imports.empty()) {
      if (budget_ <= 0) return false;  // the rest comes before the next step
      const int64_t bytes = tables_.ImportNext(seq);
      import_debt_ += import_pace_.Cost(bytes, limits_.block_size, step_budget_.position_seconds());
      const auto whole = static_cast<int32_t>(std::min(import_debt_, static_cast<double>(budget_)));
      import_debt_ = std::min(import_debt_ - whole, 1.0);
      budget_ -= whole;
    }
    const CacheTables::Next next = tables_.NextBlock(seq);
    if (next == CacheTables::Next::kBeingMade) return false;
    if (next == CacheTables::Next::kCompute) {
      if (!TakeFromTier(seq)) return true;
    } else if (seq.usage.num_preemptions == 0) {
      seq.usage.cached_tokens += limits_.block_size;
      counters_.prefix_hit_tokens += limits_.block_size;
    }
  }
}

/// False: nothing of it is there, or it is computed sooner.
bool Scheduler::TakeFromTier(Sequence& seq) {
  const CacheTables::TierOffer offer = tables_.FindInTier(seq);
  if (offer.num_blocks == 0) return false;
  const int32_t positions = offer.num_blocks * limits_.block_size - seq.num_computed;
  if (!import_pace_.Pays(offer.bytes, positions, step_budget_.position_seconds())) return false;
  if (!tables_.TakeOffer(seq, offer)) return false;
  if (seq.usage.num_preemptions == 0) {
    seq.usage.cached_tokens += positions;
    counters_.tier_hit_tokens += positions;
  }
  return true;
}

/// What was begun in earlier steps may by now be known to take longer than computing it.
void Scheduler::ReconsiderImports(Sequence& seq) {
  if (seq.imports.empty()) return;
  const CacheTables::ImportsLeft left = tables_.ImportsLeftOf(seq);
  if (import_pace_.Pays(left.bytes, left.num_positions, step_budget_.position_seconds()) ||
      !tables_.DropImports(seq) || seq.usage.num_preemptions > 0) {
    return;
  }
  seq.usage.cached_tokens -= left.num_positions;
  counters_.tier_hit_tokens -= left.num_positions;
}

void Scheduler::ObserveMoves(const StepPlan& plan, absl::Duration took, absl::Duration importing,
                             absl::Duration exporting) {
  // Nobody knows whether what is exported will be wanted: a tenth of all time goes there at most.
  constexpr double kExportShare = 0.1;
  export_credit_ = std::min(export_credit_ + kExportShare * took - exporting, kMostExportCredit);
  int64_t bytes = 0;
  for (const BlockMove& move : plan.moves) {
    if (move.to_block) bytes += limits_.groups[move.group].block_bytes;
  }
  import_pace_.Observe(bytes, absl::ToDoubleSeconds(importing));
}

}  // namespace penstock
