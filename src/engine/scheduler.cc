#include "engine/scheduler.h"

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace penstock {
Scheduler::Scheduler(const ExecutorLimits& limits, SchedulerOptions options)
    : limits_(limits),
      options_(std::move(options)),
      can_draft_(CanDraft(limits)),
      tables_(limits, options_.prefix_cache,
              PrefixHasher(options_.hash_key, options_.model_digest)),
      adapters_(limits.max_adapters),
      waiting_(options_.policy),
      step_budget_(options_.itl_target, &decode_costs_),
      mask_tasks_(limits.num_slots) {
  for (int32_t i = limits.num_slots; i-- > 0;) free_slots_.push_back(SlotId{i});
  if (!can_draft_) return;
  if (limits.max_model_drafts > 0) {
    draft_pace_.emplace(limits.max_model_drafts);
  } else if (options_.speculation.ngram) {
    speculator_.emplace(options_.speculation, &decode_costs_);
  }
}

absl::Status Scheduler::Check(const GenerateRequest& request) const {
  const auto num_prompt = static_cast<int64_t>(request.prompt.size());
  if (num_prompt == 0) return absl::InvalidArgumentError("prompt: expected at least one token");
  if (num_prompt + request.max_tokens > limits_.max_context) {
    return absl::InvalidArgumentError(absl::StrCat("prompt: ", num_prompt,
                                                   " tokens and max_tokens ", request.max_tokens,
                                                   " exceed the context of ", limits_.max_context));
  }
  if (!limits_.can_chunk && num_prompt > limits_.max_step_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("prompt: ", num_prompt, " tokens, at most ",
                                                   limits_.max_step_tokens,
                                                   " fit one step of this model"));
  }
  for (const TokenId id : request.prompt) {
    if (id < 0 || id >= limits_.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat(
          "prompt: token id ", id, " is outside the vocabulary of ", limits_.vocab_size));
    }
  }
  for (size_t g = 0; g < tables_.num_groups(); ++g) {
    const int32_t needed =
        tables_.BlocksFor(g, num_prompt + request.max_tokens, limits_.max_step_tokens);
    if (needed > tables_.pool(g).num_blocks()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "prompt: ", num_prompt, " tokens and max_tokens ", request.max_tokens, " need ", needed,
          " KV blocks, the cache has ", tables_.pool(g).num_blocks(), " (engine.kv_memory)"));
    }
  }
  return absl::OkStatus();
}

void Scheduler::Add(RequestId id, GenerateRequest request, std::shared_ptr<TokenSink> sink,
                    absl::Time submitted) {
  auto owned = std::make_unique<Sequence>();
  Sequence& seq = *owned;
  seq.id = SequenceId{next_sequence_++};
  seq.request_id = id;
  seq.tokens = request.prompt;
  if (request.grammar) seq.matcher = request.grammar->Start();
  seq.request = std::move(request);
  seq.sink = std::move(sink);
  seq.submitted = submitted;
  seq.usage.prompt_tokens = seq.num_prompt();
  waiting_.Assign(seq);
  waiting_.Push(&seq);
  CHECK(by_request_.emplace(id, &seq).second);
  for (const absl::Time t : Deadlines(seq)) deadlines_.emplace(t, seq.id);
  live_.emplace(seq.id, std::move(owned));
  if (adapters_.Takes(seq.request.adapter)) return adapters_.Begin(seq.request.adapter);
  seq.request.adapter = kNoAdapter;  // it holds none
  Finish(seq, FinishReason::kError, absl::NotFoundError("the adapter has been unloaded"));
}

std::vector<absl::Time> Scheduler::Deadlines(const Sequence& seq) const {
  std::vector<absl::Time> out;
  if (seq.request.deadline) out.push_back(*seq.request.deadline);
  if (seq.request.first_token_deadline) out.push_back(*seq.request.first_token_deadline);
  if (const absl::Duration ttl = seq.request.queue_ttl; ttl > absl::ZeroDuration())
    out.push_back(seq.submitted + ttl);
  return out;
}

void Scheduler::Cancel(RequestId id) {
  if (const auto it = by_request_.find(id); it != by_request_.end()) {
    Finish(*it->second, FinishReason::kCancelled, absl::OkStatus());
  }
}

void Scheduler::EndAll(FinishReason reason, const absl::Status& status) {
  while (!live_.empty()) Finish(*live_.begin()->second, reason, status);
}

absl::Time Scheduler::next_deadline() const {
  return deadlines_.empty() ? absl::InfiniteFuture() : deadlines_.begin()->first;
}

void Scheduler::ExpireDeadlines(absl::Time now) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const SequenceId id = deadlines_.begin()->second;
    deadlines_.erase(deadlines_.begin());
    Sequence& seq = *live_.at(id);
    const bool has_token = seq.first_token != absl::InfiniteFuture();
    const bool started = seq.first_planned != absl::InfiniteFuture();
    if (seq.request.deadline && *seq.request.deadline <= now) {
      Finish(seq, FinishReason::kDeadline,
             absl::DeadlineExceededError("the request's deadline has passed"));
    } else if (seq.request.first_token_deadline && *seq.request.first_token_deadline <= now &&
               !has_token) {
      Finish(seq, FinishReason::kDeadline,
             absl::DeadlineExceededError("no first token before its deadline"));
    } else if (!started && seq.request.queue_ttl > absl::ZeroDuration() &&
               seq.submitted + seq.request.queue_ttl <= now) {
      Finish(seq, FinishReason::kDeadline,
             absl::DeadlineExceededError("waited longer than limits.queue_ttl"));
    }
  }
}

StepPlan Scheduler::Plan(absl::Time now) {
  StepPlan plan;
  plan.step = StepId{++step_.value};
  budget_ = limits_.max_step_tokens;
  num_planned_ = 0;
  mask_tasks_.Clear();
  masks_offered_ = false;
  if (AwaitsVerification()) return plan;
  planning_ = true;
  tables_.StartPlan();
  tables_.AllowExports(export_credit_ > absl::ZeroDuration());
  AdmitHigherPriority();  // before anything is planned, when everyone can still be preempted
  AdmitIdleTenant();
  PlanDecodes(plan, now);
  if (limits_.can_chunk)
    budget_ = step_budget_.PromptPositions(num_planned_, NumPrompts(), budget_);
  if (!PlanNewcomers(plan, now)) PlanPrompts(plan, now);
  plan.moves = tables_.TakeMoves();
  planning_ = false;
  if (masks_offered_ && wake_mask_maker_) wake_mask_maker_();
  return plan;
}

void Scheduler::AdmitHigherPriority() {
  for (;;) {
    Sequence* front = waiting_.front();
    if (front == nullptr || running_.empty()) return;
    if (front->rank.priority >= running_.rbegin()->first.priority || !Admit(*front)) return;
  }
}

void Scheduler::PlanDecodes(StepPlan& plan, absl::Time now) {
  std::vector<Sequence*> decoding;
  for (const auto& [rank, seq] : running_) {
    if (seq->decoding() && !seq->exhausted()) decoding.push_back(seq);
  }
  auto num_left = static_cast<int32_t>(decoding.size());
  if (speculator_ || draft_pace_) {
    const bool with_prompts = std::any_of(running_.begin(), running_.end(), [](const auto& entry) {
      return !entry.second->decoding() && entry.second->num_remaining() > 0;
    });
    if (speculator_) speculator_->StartPlan(num_left, with_prompts);
    if (draft_pace_) num_model_drafts_ = ChooseModelDrafts(decoding, with_prompts);
  }
  for (Sequence* seq : decoding) {
    if (budget_ == 0) return;
    --num_left;
    if (!seq->running()) continue;  // preempted for one before it
    if (!Grow(*seq, seq->num_computable())) continue;
    const std::vector<TokenId> drafts = Drafts(*seq, budget_ - 1 - num_left);
    AddSlice(*seq, 1 + static_cast<int32_t>(drafts.size()), drafts, plan, now);
  }
}

bool Scheduler::AwaitsVerification() const {
  if (!speculator_) return false;
  int32_t num_decoding = 0;
  int32_t num_unverified = 0;
  for (const auto& [rank, seq] : running_) {
    num_decoding += seq->decoding() ? 1 : 0;
    num_unverified += seq->num_unverified() > 0 ? 1 : 0;
  }
  return num_unverified > 0 &&
         num_unverified >= options_.speculation.most_unverified * num_decoding;
}

int32_t Scheduler::ChooseModelDrafts(absl::Span<Sequence* const> decoding, bool with_prompts) {
  std::vector<double> rates;
  for (Sequence* seq : decoding) {
    if (seq->draft_rate < 0) seq->draft_rate = draft_pace_->start_rate();
    rates.push_back(seq->draft_rate);
  }
  return draft_pace_->Choose(rates, with_prompts);
}

/// Guesses for the positions after the next one of a sequence, with blocks to compute them in; -1
/// where the draft model is to guess.
std::vector<TokenId> Scheduler::Drafts(Sequence& seq, int32_t room) {
  const bool guesses = speculator_ || draft_pace_;
  if (!can_draft_ || !(guesses || seq.matcher) || seq.request.output == OutputKind::kHidden)
    return {};
  if (seq.matcher && HasState(limits_)) return {};  // only guesses of the executor's are taken back
  if (speculator_ && !seq.draft_state) seq.draft_state = speculator_->MakeState(tables_.Root(seq));
  room = std::min(room, seq.request.max_tokens - seq.num_outputs() - seq.num_in_flight - 1);
  for (size_t g = 0; g < tables_.num_groups(); ++g) {
    // Guesses take no block that a running sequence will soon need to go on.
    if (tables_.pool(g).num_free() <= num_running()) room = 0;
  }
  std::vector<TokenId> drafts;
  if (seq.matcher) drafts = ForcedDrafts(seq, room);
  // Under a grammar only what it allows is guessed, so that each guess can be checked under a mask.
  const bool may_guess = !seq.matcher || (seq.num_in_flight == 0 && drafts.empty());
  if (draft_pace_ && !seq.matcher) {
    drafts.resize(std::max(0, std::min(room, num_model_drafts_)), -1);
  } else if (speculator_ && may_guess) {
    drafts = speculator_->Propose(seq.tokens, seq.num_prompt(), seq.num_in_flight, room,
                                  *seq.draft_state);
    if (seq.matcher) KeepAllowed(seq, drafts);
  }
  const int32_t end = seq.num_computable() + static_cast<int32_t>(drafts.size());
  if (!drafts.empty() && !tables_.Grow(seq, end)) drafts.clear();
  return drafts;
}

bool Scheduler::HasState(const ExecutorLimits& limits) {
  return std::any_of(limits.groups.begin(), limits.groups.end(), [](const CacheGroup& group) {
    return group.retention == CacheRetention::kRecurrent;
  });
}

bool Scheduler::CanDraft(const ExecutorLimits& limits) {
  return !limits.groups.empty() && limits.can_chunk &&
         (!HasState(limits) || limits.max_model_drafts > 0);
}

/// Those that are being read or could be.
int32_t Scheduler::NumPrompts() const {
  auto count = static_cast<int32_t>(std::min<size_t>(waiting_.size(), free_slots_.size()));
  for (const auto& [rank, seq] : running_) {
    if (!seq->decoding() && seq->num_remaining() > 0) ++count;
  }
  return count;
}

void Scheduler::PlanPrompts(StepPlan& plan, absl::Time now) {
  std::vector<Sequence*> prompts;
  for (const auto& [rank, seq] : running_) {
    if (!seq->decoding() && seq->num_remaining() > 0 && seq->planned_in != plan.step)
      prompts.push_back(seq);
  }
  bool admitting = true;
  for (size_t i = 0; budget_ > 0;) {
    Sequence* running = i < prompts.size() ? prompts[i] : nullptr;
    Sequence* waiting = admitting ? waiting_.front() : nullptr;
    if (waiting != nullptr && (running == nullptr || waiting->rank < running->rank)) {
      admitting = Admit(*waiting);
      if (admitting) PlanPrompt(*waiting, plan, now);
    } else if (running != nullptr) {
      ++i;
      if (running->running()) PlanPrompt(*running, plan, now);
    } else {
      return;
    }
  }
}

void Scheduler::PlanPrompt(Sequence& seq, StepPlan& plan, absl::Time now) {
  if (!TakeCached(seq) || budget_ <= 0) return;
  const int32_t num_tokens = tables_.AlignChunk(seq, std::min(seq.num_remaining(), budget_));
  if (!limits_.can_chunk && num_tokens < seq.num_remaining()) return;
  if (Grow(seq, seq.num_computed + num_tokens)) AddSlice(seq, num_tokens, {}, plan, now);
}

bool Scheduler::Admit(Sequence& seq) {
  if (seq.num_in_flight > 0)
    return false;  // preempted with a sample on its way: its next token is not known yet
  if (!adapters_.MayRun(seq.request.adapter) && !PreemptAdapter(seq)) return false;
  if (free_slots_.empty() && !PreemptLowerPriority(seq)) return false;
  const int32_t found = tables_.MatchPrefix(seq);
  while (!HasRoomFor(seq)) {
    if (PreemptLowerPriority(seq)) continue;
    tables_.Release(seq);
    return false;
  }
  if (seq.first_planned == absl::InfiniteFuture() && seq.usage.num_preemptions == 0) {
    seq.usage.cached_tokens = found;
    counters_.prefix_queried_tokens += seq.num_prompt();
    counters_.prefix_hit_tokens += found;
    if (tables_.tier().on()) counters_.tier_queried_tokens += seq.num_prompt() - found;
  }
  waiting_.Remove(&seq);
  seq.slot = free_slots_.back();
  free_slots_.pop_back();
  running_.emplace(seq.rank, &seq);
  adapters_.Run(seq.request.adapter);
  return true;
}

bool Scheduler::HasRoomFor(const Sequence& seq, const Sequence* without) const {
  if (running_.empty()) return true;  // Check() has seen that it fits alone
  for (size_t g = 0; g < tables_.num_groups(); ++g) {
    // What those that run still need for their prompts, and one block more for each to go on
    // decoding.
    if (!tables_.holds_positions(g)) continue;
    int32_t reserved = 0;
    for (const auto& [rank, other] : running_) {
      if (other == without) continue;
      reserved += tables_.Demand(*other, g, limits_.max_step_tokens) + 1;
    }
    if (tables_.Demand(seq, g, limits_.max_step_tokens) + reserved > tables_.pool(g).num_free())
      return false;
  }
  return true;
}

bool Scheduler::PreemptLowerPriority(const Sequence& seq) {
  Sequence* victim = WorstUnplanned();
  if (victim == nullptr || victim->rank.priority <= seq.rank.priority) return false;
  Preempt(*victim);
  return true;
}

/// Everyone with one of the adapters that run, where all of them are of lower priority: of several
/// such adapters the one whose best is worst.
bool Scheduler::PreemptAdapter(const Sequence& seq) {
  absl::flat_hash_map<AdapterId, Rank> best;
  for (const auto& [rank, other] : running_) best.try_emplace(other->request.adapter, rank);
  for (const auto& [rank, other] : running_) {
    const bool stays = rank.priority <= seq.rank.priority || other->planned_in == step_;
    if (stays || other->request.adapter == kNoAdapter) best.erase(other->request.adapter);
  }
  const auto worst = std::max_element(
      best.begin(), best.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (worst == best.end()) return false;
  std::vector<Sequence*> victims;
  for (const auto& [rank, other] : running_) {
    if (other->request.adapter == worst->first) victims.push_back(other);
  }
  for (Sequence* victim : victims) Preempt(*victim);
  return true;
}

bool Scheduler::Grow(Sequence& seq, int32_t end) {
  while (!tables_.Grow(seq, end)) {
    Sequence* victim = WorstUnplanned();
    if (victim == nullptr || victim->rank <= seq.rank)
      return false;  // its turn comes when a better one is done
    Preempt(*victim);
  }
  return true;
}

Sequence* Scheduler::WorstUnplanned() {
  for (auto it = running_.rbegin(); it != running_.rend(); ++it) {
    if (it->second->planned_in != step_) return it->second;
  }
  return nullptr;
}

void Scheduler::Preempt(Sequence& seq) {
  tables_.Release(seq);
  LeaveSlot(seq);
  ++seq.usage.num_preemptions;
  ++counters_.num_preemptions;
  waiting_.Push(&seq);
}

void Scheduler::LeaveSlot(Sequence& seq) {
  running_.erase(seq.rank);
  adapters_.Rest(seq.request.adapter);
  free_slots_.push_back(seq.slot);
  seq.slot = SlotId{-1};
  seq.setup_sent = false;
}

}  // namespace penstock
