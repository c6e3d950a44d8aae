// Decides, step by step, who computes how many positions in which blocks, and takes the results in.
// Owns the live sequences, the queue and the cache accounting. Must not know text, wire, devices or
// threads.
// Threads: confined to the engine thread.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/adapter_use.h"
#include "engine/cache_tables.h"
#include "engine/draft_pace.h"
#include "engine/import_pace.h"
#include "engine/mask_task.h"
#include "engine/sequence.h"
#include "engine/speculator.h"
#include "engine/step_budget.h"
#include "engine/wait_queue.h"
#include "penstock/executor.h"

namespace penstock {

/// What exports to the second tier may take at once, where they took nothing for a while.
inline constexpr absl::Duration kMostExportCredit = absl::Milliseconds(100);

struct SchedulerOptions {
  QueuePolicy policy = QueuePolicy::kPriority;
  bool prefix_cache = true;
  std::string model_digest;
  std::array<uint64_t, 2> hash_key = {0, 0};  // secret; see PrefixHasher::RandomKey
  SpeculationOptions speculation;
  absl::Duration itl_target = absl::ZeroDuration();  // of a step beside streams; see StepBudget
};

/// Counts since the start, for metrics; the scheduler only adds.
struct SchedulerCounters {
  int64_t num_finished = 0;  // OnDone called
  int64_t num_begun = 0;     // first planned
  int64_t begun_tokens = 0;  // of their prompts
  int64_t num_preemptions = 0;
  int64_t num_corrupted = 0;          // ended by a fault of their own
  int64_t prefix_queried_tokens = 0;  // prompt tokens at first admission
  int64_t prefix_hit_tokens = 0;      // of those, found
  int64_t tier_queried_tokens = 0;    // of the others, where there is a second tier
  int64_t tier_hit_tokens = 0;        // of those, taken from it
  int64_t num_drafts = 0;             // slices with drafts that were verified
  int64_t num_draft_tokens = 0;
  int64_t num_accepted_tokens = 0;  // of those, right
  int64_t num_masks_made = 0;       // of rows, by the engine's thread
  int64_t num_masks_helped = 0;     // by another
};

class Scheduler {
 public:
  Scheduler(const ExecutorLimits& limits, SchedulerOptions options);

  /// Whether the request can ever run under these limits. Reads only what never changes: any
  /// thread.
  absl::Status Check(const GenerateRequest& request) const;
  void Add(RequestId id, GenerateRequest request, std::shared_ptr<TokenSink> sink,
           absl::Time submitted);
  void Cancel(RequestId id);
  /// Ends every live request.
  void EndAll(FinishReason reason, const absl::Status& status);
  /// Ends what is past its deadline.
  void ExpireDeadlines(absl::Time now);
  absl::Time next_deadline() const;  // InfiniteFuture: none

  /// The next step; no slices where nothing can be computed now, or better after the next Commit.
  /// The plan counts as launched.
  StepPlan Plan(absl::Time now);
  /// The results of a planned step, in launch order.
  void Commit(const StepResult& result, absl::Time now);
  /// What grammars allow in the rows of the last plan; all steps before it must be committed. A
  /// request whose grammar allows no token of the model ends. Valid until the next plan.
  std::vector<RowMask> Masks();
  /// Whether Masks has anything to say of the plan.
  bool NeedsMasks() const { return mask_tasks_.size() > 0; }
  /// Masks on offer, from the moment they can be made, to whoever makes them before Masks does.
  MaskTasks& mask_tasks() { return mask_tasks_; }
  /// Called when there are such, once a step.
  void SetMaskMaker(std::function<void()> wake) { wake_mask_maker_ = std::move(wake); }
  /// A planned step took so long; parts of it copied blocks from and to the second tier.
  void ObserveStep(const StepPlan& plan, absl::Duration took,
                   absl::Duration importing = absl::ZeroDuration(),
                   absl::Duration exporting = absl::ZeroDuration());
  /// Whether drafts are proposed at all: what was computed for a wrong one must leave no trace. Of a
  /// recurrent state an executor that guesses itself sees to that.
  static bool CanDraft(const ExecutorLimits& limits);
  /// Requests may name an adapter from AddAdapter on until RetireAdapter; those that live then go
  /// on. A number is never given twice, so that no prefix of another adapter is found.
  void AddAdapter(AdapterId id) { adapters_.Add(id); }
  bool RetireAdapter(AdapterId id) { return adapters_.Retire(id); }  // false: there is none
  /// Retired ones that no request has any more, each once.
  std::vector<AdapterId> TakeIdleAdapters() { return adapters_.TakeIdle(); }
  /// Forgets all cached prefixes.
  void ResetCache() { tables_.Reset(); }

  int32_t num_running() const { return static_cast<int32_t>(running_.size()); }
  int32_t num_waiting() const { return waiting_.size(); }
  int32_t num_live() const { return static_cast<int32_t>(live_.size()); }
  int32_t num_planned_tokens() const { return num_planned_; }  // by the last Plan
  int64_t num_waiting_tokens() const { return waiting_.num_tokens(); }
  const WaitQueue& waiting() const { return waiting_; }
  const CacheTables& tables() const { return tables_; }
  const AdapterUse& adapters() const { return adapters_; }
  const SchedulerCounters& counters() const { return counters_; }

 private:
  static bool HasState(const ExecutorLimits& limits);
  using LiveMap = absl::flat_hash_map<SequenceId, std::unique_ptr<Sequence>>;

  void AdmitHigherPriority();
  /// What a tenant has running at one priority.
  struct Share {
    int32_t count = 0;
    Sequence* last = nullptr;
  };
  using Shares = absl::flat_hash_map<absl::string_view, Share>;
  Shares SharesAt(int32_t priority) const;
  void AdmitIdleTenant();
  bool PlanNewcomers(StepPlan& plan, absl::Time now);
  void PlanDecodes(StepPlan& plan, absl::Time now);
  int32_t NumPrompts() const;
  void PlanPrompts(StepPlan& plan, absl::Time now);
  void PlanPrompt(Sequence& seq, StepPlan& plan, absl::Time now);
  /// Takes what is in the cache of a prompt's next blocks; false where it is to wait for more.
  bool TakeCached(Sequence& seq);
  bool TakeFromTier(Sequence& seq);
  void ReconsiderImports(Sequence& seq);
  void ObserveMoves(const StepPlan& plan, absl::Duration took, absl::Duration importing,
                    absl::Duration exporting);
  bool Admit(Sequence& seq);
  /// `without`: whose demand does not count, though its blocks are not yet free; or null.
  bool HasRoomFor(const Sequence& seq, const Sequence* without = nullptr) const;
  bool PreemptLowerPriority(const Sequence& seq);
  bool PreemptAdapter(const Sequence& seq);
  bool Grow(Sequence& seq, int32_t end);
  Sequence* WorstUnplanned();
  void Preempt(Sequence& seq);

  bool AwaitsVerification() const;
  std::vector<TokenId> Drafts(Sequence& seq, int32_t room);
  /// The tokens that a grammar leaves no choice about, behind those in flight.
  static std::vector<TokenId> ForcedDrafts(Sequence& seq, int32_t room);
  /// Drops the first draft that a grammar does not allow, or behind which there is nothing to draw,
  /// and all after it.
  static void KeepAllowed(Sequence& seq, std::vector<TokenId>& drafts);
  /// Of the plan's last slice.
  void PlanMasks(Sequence& seq, const StepPlan& plan, absl::Span<const TokenId> drafts);
  void OfferMasks(Sequence& seq);
  /// How many the draft model is to guess for each of those that decode.
  int32_t ChooseModelDrafts(absl::Span<Sequence* const> decoding, bool with_prompts);
  void AddSlice(Sequence& seq, int32_t num_tokens, absl::Span<const TokenId> drafts, StepPlan& plan,
                absl::Time now);
  void AddSetup(Sequence& seq, StepPlan& plan);
  void AddInput(Sequence& seq, absl::Span<const TokenId> drafts, SequenceSlice& slice,
                StepPlan& plan);
  void AddBlocks(Sequence& seq, SequenceSlice& slice, StepPlan& plan);

  void CommitSlice(Sequence& seq, const SliceResult& slice, absl::Time now);
  void DeliverOutput(Sequence& seq, const RequestOutput& output);
  void SettleDrafts(Sequence& seq, const SliceResult& slice);
  bool DeliverTokens(Sequence& seq, const SliceResult& slice, absl::Time now);
  void Finish(Sequence& seq, FinishReason reason, const absl::Status& status);
  void LeaveSlot(Sequence& seq);
  std::vector<absl::Time> Deadlines(const Sequence& seq) const;

  const ExecutorLimits limits_;
  const SchedulerOptions options_;
  const bool can_draft_;
  CacheTables tables_;
  AdapterUse adapters_;
  WaitQueue waiting_;
  StepCosts decode_costs_;
  std::optional<Speculator> speculator_;  // where drafts are proposed
  std::optional<DraftPace> draft_pace_;   // where the executor's draft model guesses
  int32_t num_model_drafts_ = 0;          // of each sequence in the plan being made
  StepBudget step_budget_;
  ImportPace import_pace_;
  absl::Duration export_credit_ = kMostExportCredit;  // what exports may yet take
  double import_debt_ = 0;  // positions' time that copies took and budget_ did not pay, below 1
  LiveMap live_;
  absl::flat_hash_map<RequestId, Sequence*> by_request_;
  std::map<Rank, Sequence*> running_;
  std::vector<SlotId> free_slots_;
  std::set<std::pair<absl::Time, SequenceId>> deadlines_;
  uint64_t next_sequence_ = 1;
  StepId step_{0};           // the last one planned
  int32_t budget_ = 0;       // positions that the plan being made may still take
  int32_t num_planned_ = 0;  // positions that it has
  SchedulerCounters counters_;
  MaskTasks mask_tasks_;  // of the last plan
  std::function<void()> wake_mask_maker_;
  bool planning_ = false;
  bool newcomers_alone_ = false;  // the last plan had prompts of theirs and no others
  bool masks_offered_ = false;    // some of the last plan's
};

}  // namespace penstock
