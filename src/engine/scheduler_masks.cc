// Grammars of running sequences: which drafts may be tried, which tokens each row may draw.
#include <algorithm>

#include "engine/scheduler.h"

namespace penstock {

void Scheduler::KeepAllowed(Sequence& seq, std::vector<TokenId>& drafts) {
  TokenMatcher& matcher = *seq.matcher;
  // What ends the text where no token may say so has no row behind it to draw from.
  const bool says_so = !seq.request.stop_token_ids.empty();
  size_t kept = 0;
  int32_t num_accepted = 0;
  for (const TokenId id : drafts) {
    if (!matcher.Accept(id)) break;
    ++num_accepted;
    if ((!says_so && matcher.ended()) || !matcher.too_ambiguous().ok()) break;
    ++kept;
  }
  drafts.resize(kept);
  matcher.Rollback(num_accepted);
}

std::vector<TokenId> Scheduler::ForcedDrafts(Sequence& seq, int32_t room) {
  constexpr int32_t kMostForced = 32;
  const absl::Span<const TokenId> forced = seq.matcher->Forced();
  // Outputs on their way are the first of them.
  const auto num_known = static_cast<size_t>(seq.num_in_flight);
  const auto most = num_known + static_cast<size_t>(std::clamp(room, 0, kMostForced));
  std::vector<TokenId> drafts(forced.begin(), forced.begin() + std::min(forced.size(), most));
  if (seq.request.stop_token_ids.empty()) KeepAllowed(seq, drafts);
  drafts.erase(drafts.begin(), drafts.begin() + std::min(drafts.size(), num_known));
  return drafts;
}

void Scheduler::PlanMasks(Sequence& seq, const StepPlan& plan, absl::Span<const TokenId> drafts) {
  const SequenceSlice& slice = plan.slices.back();
  mask_tasks_.Add().Plan(seq, plan.slices.size() - 1, slice.num_outputs - 1 - slice.num_drafts,
                         drafts, limits_.vocab_size);
}

void Scheduler::OfferMasks(Sequence& seq) {
  seq.masks->Offer();
  if (masks_offered_) return;
  masks_offered_ = true;
  // While a plan is made nobody is woken: the forward pass waits for it, and hides the masks.
  if (!planning_ && wake_mask_maker_) wake_mask_maker_();
}

std::vector<RowMask> Scheduler::Masks() {
  // The oldest are made elsewhere first, if they are.
  for (size_t i = mask_tasks_.size(); i-- > 0;) {
    if (mask_tasks_[i].Claim(MaskTask::Maker::kEngine)) mask_tasks_[i].Make();
  }
  std::vector<RowMask> masks;
  for (size_t i = 0; i < mask_tasks_.size(); ++i) {
    MaskTask& task = mask_tasks_[i];
    if (task.withdrawn()) continue;
    task.Await();
    Sequence& seq = task.Release();
    const auto num_rows = static_cast<int32_t>(task.num_rows());
    (task.maker() == MaskTask::Maker::kHelper ? counters_.num_masks_helped
                                              : counters_.num_masks_made) += num_rows;
    for (int32_t row = 0; row < num_rows; ++row) {
      masks.push_back({static_cast<int32_t>(task.slice()), task.first_output() + row, task.row(row),
                       task.cut_short() && row + 1 == num_rows});
    }
    // Nothing can be drawn under a mask of nothing. What the step yields for it is dropped.
    switch (task.end()) {
      case MaskTask::End::kNone:
        break;
      case MaskTask::End::kFinished:
        Finish(seq, FinishReason::kStop, absl::OkStatus());
        break;
      case MaskTask::End::kNoToken:
        Finish(seq, FinishReason::kError,
               absl::InvalidArgumentError(
                   "the grammar asks for text that no token of this model has"));
        break;
      case MaskTask::End::kForbidden:
        Finish(seq, FinishReason::kError,
               absl::InvalidArgumentError("allowed_token_ids and bad_words leave nothing of what "
                                          "the answer must be"));
        break;
      case MaskTask::End::kAmbiguous:
        Finish(seq, FinishReason::kError, task.too_ambiguous());
        break;
    }
  }
  return masks;
}

}  // namespace penstock
