// The two ends of a step: how a decision becomes a slice, and how a result becomes progress.
#include <algorithm>
#include <optional>

#include "base/status_macros.h"
#include "engine/scheduler.h"

namespace penstock {

void Scheduler::AddSlice(Sequence& seq, int32_t num_tokens, absl::Span<const TokenId> drafts,
                         StepPlan& plan, absl::Time now) {
  const auto num_drafts = static_cast<int32_t>(drafts.size());
  if (!seq.setup_sent) AddSetup(seq, plan);
  SequenceSlice slice;
  slice.sequence = seq.id;
  slice.slot = seq.slot;
  slice.adapter = seq.request.adapter;
  slice.begin = seq.num_computed;
  slice.num_tokens = num_tokens;
  slice.num_drafts = num_drafts;
  slice.begin_on_device = seq.num_unverified() > 0;
  slice.draft_along = draft_pace_ && !seq.decoding() && draft_pace_->pays();
  const bool reaches_end = seq.num_computed + num_tokens - num_drafts == seq.num_computable();
  if (seq.request.output == OutputKind::kPromptLogprobs && seq.num_computed < seq.num_prompt()) {
    slice.kind = OutputKind::kPromptLogprobs;
    slice.num_outputs = num_tokens;
    slice.num_logprobs = seq.request.num_prompt_logprobs;
  } else if (reaches_end) {
    slice.kind =
        seq.request.output == OutputKind::kHidden ? OutputKind::kHidden : OutputKind::kToken;
    slice.num_outputs = 1 + num_drafts;
  }
  AddInput(seq, drafts, slice, plan);
  AddBlocks(seq, slice, plan);
  slice.state = tables_.TakeStates(seq, slice.begin + num_tokens);
  plan.slices.push_back(slice);

  budget_ -= num_tokens;
  num_planned_ += num_tokens;
  seq.planned_in = plan.step;
  if (!seq.has_begun()) {
    seq.first_planned = now;
    waiting_.Begin(seq);
    ++counters_.num_begun;
    counters_.begun_tokens += static_cast<int64_t>(seq.request.prompt.size());
  }
  seq.num_computed += num_tokens;
  if (reaches_end) {
    const bool all_known = seq.num_in_flight == 0;
    seq.num_in_flight += 1 + num_drafts;
    seq.drafts_in_flight.push_back(num_drafts);
    seq.forced_in_flight.push_back(num_drafts > 0 && seq.matcher && !seq.matcher->Forced().empty());
    if (seq.matcher && slice.kind != OutputKind::kHidden) {
      PlanMasks(seq, plan, drafts);
      if (all_known) OfferMasks(seq);  // else once its tokens on their way are
    }
  }
  tables_.RegisterComputed(
      seq);  // steps run in launch order: whoever is planned from here on may read these blocks
}

void Scheduler::AddSetup(Sequence& seq, StepPlan& plan) {
  SlotSetup setup;
  setup.slot = seq.slot;
  setup.sequence = seq.id;
  setup.sampling = seq.request.sampling;
  setup.stop_token_ids = seq.request.stop_token_ids;
  setup.second_segment = seq.request.second_segment;
  setup.prompt_tokens = seq.num_prompt();
  if (seq.request.sampling.needs_history() || draft_pace_) setup.history = seq.tokens;
  plan.setups.push_back(std::move(setup));
  seq.setup_sent = true;
}

void Scheduler::AddInput(Sequence& seq, absl::Span<const TokenId> drafts, SequenceSlice& slice,
                         StepPlan& plan) {
  slice.token_offset = static_cast<int32_t>(plan.tokens.size());
  // Prompt log-probs need the token after each position; the last position's is the one to be
  // drawn.
  const int32_t extra = slice.kind == OutputKind::kPromptLogprobs ? 1 : 0;
  const int32_t end = slice.begin + slice.num_tokens - slice.num_drafts;
  for (int32_t p = slice.begin; p < end + extra; ++p) {
    plan.tokens.push_back(p < seq.num_known() ? seq.tokens[p] : -1);
  }
  plan.tokens.insert(plan.tokens.end(), drafts.begin(), drafts.end());
  slice.feed_last_sample = slice.begin >= seq.num_known();
}

void Scheduler::AddBlocks(Sequence& seq, SequenceSlice& slice, StepPlan& plan) {
  for (size_t g = 0; g < tables_.num_groups(); ++g) {
    BlockTable& table = seq.tables[g];
    slice.blocks[g].begin = static_cast<int32_t>(plan.block_ids.size());
    slice.blocks[g].count = static_cast<int32_t>(table.blocks.size()) - table.num_sent;
    plan.block_ids.insert(plan.block_ids.end(), table.blocks.begin() + table.num_sent,
                          table.blocks.end());
    table.num_sent = static_cast<int32_t>(table.blocks.size());
  }
}

void Scheduler::Commit(const StepResult& result, absl::Time now) {
  for (const SliceResult& slice : result.slices) {
    const auto it = live_.find(slice.sequence);
    if (it != live_.end())
      CommitSlice(*it->second, slice, now);  // else it ended while the step was on its way
  }
}

void Scheduler::CommitSlice(Sequence& seq, const SliceResult& slice, absl::Time now) {
  if (!slice.fault.ok()) {
    ++counters_.num_corrupted;
    return Finish(seq, FinishReason::kError, slice.fault);
  }
  if (slice.output.kind != OutputKind::kNone) DeliverOutput(seq, slice.output);
  if (slice.output.kind == OutputKind::kHidden) {
    SettleDrafts(seq, slice);
    seq.first_token = seq.last_token = now;
    return Finish(seq, FinishReason::kStop, absl::OkStatus());
  }
  if (slice.tokens.empty()) return;  // a chunk of prompt log-probs
  SettleDrafts(seq, slice);
  if (!DeliverTokens(seq, slice, now)) return;
  if (seq.running()) tables_.RegisterComputed(seq);
  if (seq.masks != nullptr && seq.masks->planned()) OfferMasks(seq);
}

/// Takes a slice's outputs out of flight, and the positions of its wrong drafts back.
void Scheduler::SettleDrafts(Sequence& seq, const SliceResult& slice) {
  const int32_t num_drafts = seq.drafts_in_flight.front();
  seq.drafts_in_flight.erase(seq.drafts_in_flight.begin());
  seq.num_in_flight -= 1 + num_drafts;
  if (seq.running()) seq.num_computed -= num_drafts - slice.num_accepted;
  const bool forced = seq.forced_in_flight.front();
  seq.forced_in_flight.erase(seq.forced_in_flight.begin());
  if (num_drafts == 0 || forced) return;
  ++counters_.num_drafts;
  counters_.num_draft_tokens += num_drafts;
  counters_.num_accepted_tokens += slice.num_accepted;
  if (draft_pace_) draft_pace_->ObserveGuesses(num_drafts, slice.num_accepted, seq.draft_rate);
}

void Scheduler::ObserveStep(const StepPlan& plan, absl::Duration took, absl::Duration importing,
                            absl::Duration exporting) {
  ObserveMoves(plan, took, importing, exporting);
  if (plan.slices.empty()) return;
  int32_t decodes = 0;
  int32_t prompts = 0;
  int32_t drafts = 0;
  bool forced = false;  // drafts that no draft model made
  for (const SequenceSlice& slice : plan.slices) {
    const bool decodes_all =
        slice.kind == OutputKind::kToken && slice.num_outputs == slice.num_tokens;
    (decodes_all ? decodes : prompts) += slice.num_tokens;
    drafts = std::max(drafts, slice.num_drafts);
    forced |= slice.num_drafts > 0 && plan.tokens[slice.token_offset + slice.num_tokens - 1] >= 0;
  }
  const double seconds = absl::ToDoubleSeconds(std::max(took - importing, absl::ZeroDuration()));
  if (prompts > 0) {
    step_budget_.Observe(decodes, prompts, seconds);
  } else if (!draft_pace_) {
    decode_costs_.Observe(decodes, seconds);
  } else if (!forced) {
    draft_pace_->ObserveStep(static_cast<int32_t>(plan.slices.size()), drafts, seconds);
    if (drafts == 0) decode_costs_.Observe(decodes, seconds);
  }
}

void Scheduler::DeliverOutput(Sequence& seq, const RequestOutput& output) {
  if (output.kind != OutputKind::kPromptLogprobs) return seq.sink->OnOutput(output);
  // After a preemption positions are computed again, and outputs drawn before it count as input.
  const int32_t end = std::min(output.begin + static_cast<int32_t>(output.prompt_logprobs.size()),
                               seq.num_prompt());
  RequestOutput fresh;
  fresh.kind = output.kind;
  fresh.begin = std::max(output.begin, seq.num_prompt_scored);
  if (end <= fresh.begin) return;
  fresh.prompt_logprobs.assign(output.prompt_logprobs.begin() + (fresh.begin - output.begin),
                               output.prompt_logprobs.begin() + (end - output.begin));
  seq.num_prompt_scored = end;
  seq.sink->OnOutput(fresh);
}

/// Hands the tokens on as far as the request may have them; false where it ended with them.
bool Scheduler::DeliverTokens(Sequence& seq, const SliceResult& slice, absl::Time now) {
  std::optional<FinishReason> reason;
  size_t count = 0;
  if (seq.request.max_tokens == 0)
    reason = FinishReason::kLength;  // only the prompt was asked about
  while (!reason && count < slice.tokens.size()) {
    const TokenId id = slice.tokens[count++].id;
    seq.tokens.push_back(id);
    const std::vector<TokenId>& stops = seq.request.stop_token_ids;
    const bool stops_here = std::find(stops.begin(), stops.end(), id) != stops.end();
    // Where a grammar leaves nothing but the end, min_tokens gives way.
    const bool goes_on = !seq.matcher || seq.matcher->Accept(id);
    if (stops_here && (seq.num_outputs() > seq.request.sampling.min_tokens || !goes_on)) {
      reason = FinishReason::kStop;
      seq.usage.stop_token = id;
    } else if (!goes_on || (seq.matcher && seq.matcher->ended())) {
      reason = FinishReason::kStop;
    } else if (seq.num_outputs() >= seq.request.max_tokens) {
      reason = FinishReason::kLength;
      seq.usage.grammar_open = seq.matcher && !seq.matcher->finished();
    }
  }
  if (count > 0) {
    seq.first_token = std::min(seq.first_token, now);
    seq.last_token = now;
    seq.usage.completion_tokens += static_cast<int32_t>(count);
    seq.sink->OnTokens({slice.tokens.data(), count});
  }
  if (reason) Finish(seq, *reason, absl::OkStatus());
  return !reason;
}

void Scheduler::Finish(Sequence& seq, FinishReason reason, const absl::Status& status) {
  if (seq.masks != nullptr) seq.masks->Withdraw();
  if (seq.running()) {
    tables_.Release(seq);
    LeaveSlot(seq);
  } else {
    waiting_.Remove(&seq);
  }
  if (seq.draft_state) speculator_->Remember(seq.draft_state->root, seq.tokens, seq.num_prompt());
  for (const absl::Time t : Deadlines(seq)) deadlines_.erase({t, seq.id});
  if (seq.first_planned != absl::InfiniteFuture())
    seq.usage.queue_time = seq.first_planned - seq.submitted;
  if (seq.first_token != absl::InfiniteFuture()) {
    seq.usage.prefill_time = seq.first_token - seq.first_planned;
    seq.usage.decode_time = seq.last_token - seq.first_token;
  }
  adapters_.End(seq.request.adapter);
  waiting_.End(seq);
  ++counters_.num_finished;
  by_request_.erase(seq.request_id);
  const auto node =
      live_.extract(seq.id);  // the sink may submit again; nothing of this one is left by then
  seq.sink->OnDone(reason, seq.usage, status);
}

}  // namespace penstock
