#include "engine/engine_loop.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/thread_name.h"
#include "base/wall_time.h"

namespace penstock {

EngineLoop::EngineLoop(std::unique_ptr<Executor> executor, EngineOptions options)
    : executor_(std::move(executor)),
      options_(std::move(options)),
      limits_(executor_->limits()),
      scheduler_(limits_, options_.scheduler) {
  CHECK(options_.clock != nullptr);
}

EngineLoop::~EngineLoop() {
  stopping_ = true;
  mailbox_.Close();
  if (thread_.joinable()) thread_.join();
  const absl::Status gone = absl::UnavailableError("the server is shutting down");
  ReadMailbox();
  scheduler_.EndAll(FinishReason::kError, gone);
  for (DoneCallback& done : controls_) done(gone);
  for (auto& [id, waiting] : unloads_) {
    for (DoneCallback& done : waiting) done(gone);
  }
  Publish();
}

void EngineLoop::Start() {
  masks_.emplace(&scheduler_.mask_tasks());
  scheduler_.SetMaskMaker([this] { WakeMaskLoop(); });
  thread_ = std::thread([this] { Run(); });
}

void EngineLoop::Run() {
  NameThread("engine");
  if (options_.on_thread_start) options_.on_thread_start();
  while (!stopping_) {
    if (!RunOnce()) WaitForWork();
  }
}

bool EngineLoop::RunOnce() {
  ReadMailbox();
  scheduler_.ExpireDeadlines(options_.clock->Now());
  if (!fault_.ok()) scheduler_.EndAll(FinishReason::kError, fault_);
  if (!unloads_.empty()) UnloadIdle();
  const bool launched =
      fault_.ok() && num_steps_in_flight() < limits_.pipeline_depth && LaunchNext();
  const bool collect =
      num_steps_in_flight() == limits_.pipeline_depth || (!in_flight_.empty() && !launched);
  if (collect) CollectOldest();
  Publish();
  return launched || collect;
}

void EngineLoop::ReadMailbox() {
  for (Message& message : mailbox_.TakeAll()) {
    std::visit([this](auto& m) { Handle(std::move(m)); }, message);
  }
}

void EngineLoop::Handle(SubmitMessage message) {
  scheduler_.Add(message.id, std::move(message.request), std::move(message.sink),
                 message.submitted);
}

void EngineLoop::Handle(ControlMessage message) {
  if (message.command.kind == CommandKind::kResetCache) {
    scheduler_.ResetCache();
    return message.done(absl::OkStatus());
  }
  if (message.command.kind == CommandKind::kUnloadAdapter) {
    if (!scheduler_.RetireAdapter(message.command.adapter))
      return message.done(absl::NotFoundError("the adapter is not loaded"));
    unloads_[message.command.adapter].push_back(std::move(message.done));
    return;
  }
  const absl::Status status = fault_.ok() ? executor_->Control(message.command) : fault_;
  if (!status.ok()) return message.done(status);
  if (message.command.kind == CommandKind::kLoadAdapter)
    scheduler_.AddAdapter(message.command.adapter);
  controls_.push_back(std::move(message.done));
}

void EngineLoop::UnloadIdle() {
  for (const AdapterId id : scheduler_.TakeIdleAdapters()) {
    const auto node = unloads_.extract(id);
    const auto report = [waiting = std::move(node.mapped())](const absl::Status& status) {
      for (const DoneCallback& done : waiting) done(status);
    };
    const Command command{.kind = CommandKind::kUnloadAdapter, .adapter = id, .path = ""};
    const absl::Status status = fault_.ok() ? executor_->Control(command) : fault_;
    if (!status.ok()) {
      report(status);
    } else {
      controls_.push_back(report);
    }
  }
}

bool EngineLoop::LaunchNext() {
  const absl::Time begin = options_.clock->Now();
  StepPlan plan = scheduler_.Plan(begin);
  // An empty step carries the reports of commands where there is nothing to compute.
  if (plan.slices.empty() && plan.moves.empty() && (controls_.empty() || !in_flight_.empty()))
    return false;
  const absl::Time planned = options_.clock->Now();
  absl::Status status = executor_->Launch(plan);
  options_.metrics.step_plan.Observe(absl::ToDoubleSeconds(planned - begin));
  options_.metrics.step_launch.Observe(absl::ToDoubleSeconds(options_.clock->Now() - planned));
  absl::Duration forward;
  if (status.ok()) status = SampleNext(plan, forward);
  if (!fault_.ok()) return false;
  if (!status.ok()) {
    Fail(status);
    return false;
  }
  if (!plan.slices.empty())
    options_.metrics.iteration_tokens.Observe(scheduler_.num_planned_tokens());
  in_flight_.push_back({std::move(plan), planned, forward});
  return true;
}

void EngineLoop::WakeMaskLoop() {
  const absl::Time begin = options_.clock->Now();
  mask_help_ = options_.always_help_with_masks || mask_pace_.Helps(scheduler_.mask_tasks().size());
  if (*mask_help_) masks_->Wake();
  mask_wake_ = options_.clock->Now() - begin;
}

absl::Status EngineLoop::SampleNext(const StepPlan& plan, absl::Duration& forward) {
  if (!scheduler_.NeedsMasks()) return executor_->Sample(plan.step, {});
  // Grammars must know the tokens of the steps before; this one's forward pass runs meanwhile.
  while (fault_.ok() && !in_flight_.empty()) CollectOldest();
  if (!fault_.ok()) return fault_;
  const absl::Time launched = options_.clock->Now();
  RETURN_IF_ERROR(executor_->Forward());
  const absl::Time begin = options_.clock->Now();
  forward = begin - launched;
  const size_t num_tasks = scheduler_.mask_tasks().size();
  const std::vector<RowMask> masks = scheduler_.Masks();
  const absl::Duration took = options_.clock->Now() - begin;
  if (mask_help_)
    mask_pace_.Observe(num_tasks, *mask_help_, absl::ToDoubleSeconds(took + mask_wake_));
  mask_help_.reset();
  options_.metrics.step_masks.Observe(absl::ToDoubleSeconds(took));
  return executor_->Sample(plan.step, masks);
}

void EngineLoop::CollectOldest() {
  const absl::Time begin = options_.clock->Now();
  absl::StatusOr<StepResult> result = executor_->Collect();
  if (!result.ok()) return Fail(result.status());
  const absl::Time now = options_.clock->Now();
  // A step begins when the one before it ends.
  const Launched step = std::move(in_flight_.front());
  in_flight_.pop_front();
  scheduler_.ObserveStep(step.plan, now - std::max(step.at, last_collect_), result->importing,
                         result->exporting);
  last_collect_ = now;
  if (result->importing > absl::ZeroDuration())
    options_.metrics.tier_import_seconds.Add(absl::ToDoubleSeconds(result->importing));
  if (result->exporting > absl::ZeroDuration())
    options_.metrics.tier_export_seconds.Add(absl::ToDoubleSeconds(result->exporting));
  last_step_nanos_ = absl::ToUnixNanos(now);
  for (const absl::Status& status : result->controls) {
    CHECK(!controls_.empty());
    const DoneCallback done = std::move(controls_.front());
    controls_.pop_front();
    done(status);
  }
  scheduler_.Commit(*result, now);
  const SchedulerCounters& counters = scheduler_.counters();
  admissions_.Observe(now, counters.num_begun, counters.begun_tokens, scheduler_.num_waiting() > 0);
  requests_per_second_ = admissions_.requests();
  tokens_per_second_ = admissions_.tokens();
  options_.metrics.step_collect.Observe(absl::ToDoubleSeconds(now - begin + step.forward));
  options_.metrics.step_commit.Observe(absl::ToDoubleSeconds(options_.clock->Now() - now));
}

void EngineLoop::Fail(const absl::Status& status) {
  fault_ = Annotate(status, "the device failed");
  healthy_ = false;
  in_flight_.clear();
  scheduler_.EndAll(FinishReason::kError, fault_);
  for (DoneCallback& done : std::exchange(controls_, {})) done(fault_);
}

void EngineLoop::WaitForWork() {
  const absl::Time deadline = scheduler_.next_deadline();
  if (deadline == absl::InfiniteFuture()) return mailbox_.Wait();
  mailbox_.WaitUntil(std::chrono::steady_clock::now() +
                     absl::ToChronoNanoseconds(deadline - options_.clock->Now()));
}

void EngineLoop::Publish() {
  num_running_ = scheduler_.num_running();
  num_waiting_tokens_ = scheduler_.num_waiting_tokens();
  kv_usage_ = scheduler_.tables().usage();
  if (const AdapterUse& adapters = scheduler_.adapters();
      adapters.version() != published_adapters_) {
    published_adapters_ = adapters.version();
    const std::lock_guard lock(lists_mutex_);
    running_adapters_ = adapters.Running();
    waiting_adapters_ = adapters.Waiting();
  }
  if (const WaitQueue& waiting = scheduler_.waiting(); waiting.version() != published_waiting_) {
    published_waiting_ = waiting.version();
    auto levels = std::make_shared<std::vector<WaitingLoad>>();
    for (const auto& [key, level] : waiting.levels()) levels->push_back(level);
    const std::lock_guard lock(lists_mutex_);
    waiting_ = std::move(levels);
  }
  ExportMetrics();
  const int64_t finished = scheduler_.counters().num_finished;
  if (finished == num_finished_.load()) return;
  num_finished_ = finished;
  WakeDrain();
}

void EngineLoop::ExportMetrics() {
  const EngineMetrics& m = options_.metrics;
  m.num_requests_running.Set(scheduler_.num_running());
  m.num_requests_waiting.Set(scheduler_.num_waiting());
  m.num_waiting_for_capacity.Set(scheduler_.num_waiting());
  m.last_step.Set(absl::ToDoubleSeconds(
      WallTime(*options_.clock, absl::FromUnixNanos(last_step_nanos_)) - absl::UnixEpoch()));
  m.kv_cache_usage.Set(kv_usage_);
  if (scheduler_.tables().num_groups() > 0) {
    const BlockPool& pool = scheduler_.tables().pool(0);
    m.kv_blocks_used.Set(pool.num_held());
    m.kv_blocks_cached.Set(pool.num_free_cached());
    m.kv_blocks_free.Set(pool.num_free() - pool.num_free_cached());
  }
  if (scheduler_.tables().tier().on()) ExportTierMetrics();
  const SchedulerCounters& now = scheduler_.counters();
  if (now.num_preemptions != exported_.num_preemptions) {
    m.num_preemptions.Add(now.num_preemptions - exported_.num_preemptions);
  }
  if (now.num_corrupted != exported_.num_corrupted)
    m.corrupted_requests.Add(now.num_corrupted - exported_.num_corrupted);
  if (now.prefix_queried_tokens != exported_.prefix_queried_tokens) {
    m.prefix_cache_queries.Add(now.prefix_queried_tokens - exported_.prefix_queried_tokens);
  }
  if (now.prefix_hit_tokens != exported_.prefix_hit_tokens) {
    m.prefix_cache_hits.Add(now.prefix_hit_tokens - exported_.prefix_hit_tokens);
  }
  if (now.num_drafts != exported_.num_drafts) {
    m.spec_drafts.Add(now.num_drafts - exported_.num_drafts);
    m.spec_draft_tokens.Add(now.num_draft_tokens - exported_.num_draft_tokens);
    m.spec_accepted_tokens.Add(now.num_accepted_tokens - exported_.num_accepted_tokens);
  }
  if (now.num_masks_made + now.num_masks_helped !=
      exported_.num_masks_made + exported_.num_masks_helped) {
    m.masks_made.Add(now.num_masks_made - exported_.num_masks_made);
    m.masks_helped.Add(now.num_masks_helped - exported_.num_masks_helped);
  }
  exported_ = now;
}

void EngineLoop::ExportTierMetrics() {
  const EngineMetrics& m = options_.metrics;
  const CacheTier& tier = scheduler_.tables().tier();
  m.tier_used.Set(tier.num_used());
  m.tier_free.Set(tier.num_places() - tier.num_used());
  const SchedulerCounters& now = scheduler_.counters();
  const auto add = [](const CounterHandle& counter, int64_t value, int64_t& exported) {
    if (value != exported) counter.Add(static_cast<double>(value - exported));
    exported = value;
  };
  add(m.tier_queries, now.tier_queried_tokens, exported_.tier_queried_tokens);
  add(m.tier_hits, now.tier_hit_tokens, exported_.tier_hit_tokens);
  add(m.tier_exported, tier.num_exported(), exported_tier_.num_exported);
  add(m.tier_imported, tier.num_imported(), exported_tier_.num_imported);
  add(m.tier_evicted, tier.num_evicted(), exported_tier_.num_evicted);
  add(m.tier_lost, tier.num_lost(), exported_tier_.num_lost);
  add(m.tier_exported_bytes, tier.exported_bytes(), exported_tier_.exported_bytes);
  add(m.tier_imported_bytes, tier.imported_bytes(), exported_tier_.imported_bytes);
}

absl::Status EngineLoop::Submit(RequestId id, GenerateRequest request,
                                std::shared_ptr<TokenSink> sink) {
  if (const absl::Status checked = scheduler_.Check(request); !checked.ok()) {
    options_.metrics.rejected_too_large.Add();
    return checked;
  }
  if (!healthy_)
    return absl::UnavailableError("the device has failed; the server must be restarted");
  const int64_t most = int64_t{options_.max_queue} + limits_.num_slots;
  const bool full = num_submitted_.fetch_add(1) - num_finished_.load() >= most;
  absl::Status refused;
  if (draining_) {
    refused = absl::UnavailableError("the server is draining");
    options_.metrics.rejected_draining.Add();
  } else if (full) {
    refused = absl::ResourceExhaustedError(
        absl::StrCat("the queue is full: ", options_.max_queue, " requests wait"));
    options_.metrics.rejected_queue_full.Add();
  } else {
    Message message = SubmitMessage{id, std::move(request), std::move(sink), options_.clock->Now()};
    if (mailbox_.TryPush(message)) return absl::OkStatus();
    refused = absl::UnavailableError("the server is shutting down");
  }
  --num_submitted_;
  WakeDrain();
  return refused;
}

void EngineLoop::WakeDrain() {
  if (!draining_ || num_live() > 0) return;
  std::lock_guard lock(drain_mutex_);
  drained_.notify_all();
}

void EngineLoop::Cancel(RequestId id) {
  Message message = CancelMessage{id};
  if (!mailbox_.TryPush(message)) return;  // shutting down ends it as well
}

void EngineLoop::Control(Command command, DoneCallback done) {
  Message message = ControlMessage{std::move(command), std::move(done)};
  if (!mailbox_.TryPush(message)) {
    std::get<ControlMessage>(message).done(absl::UnavailableError("the server is shutting down"));
  }
}

EngineLoad EngineLoop::load() const {
  EngineLoad load;
  load.num_running = num_running_;
  load.num_waiting = static_cast<int32_t>(std::max<int64_t>(0, num_live() - load.num_running));
  load.num_waiting_tokens = num_waiting_tokens_;
  load.requests_per_second = requests_per_second_;
  load.tokens_per_second = tokens_per_second_;
  load.kv_usage = kv_usage_;
  load.healthy = healthy_;
  load.draining = draining_;
  load.has_turns = scheduler_.waiting().has_turns();
  load.last_step = absl::FromUnixNanos(last_step_nanos_);
  const std::lock_guard lock(lists_mutex_);
  load.waiting = waiting_;
  load.running_adapters = running_adapters_;
  load.waiting_adapters = waiting_adapters_;
  return load;
}

EngineInfo EngineLoop::info() const {
  EngineInfo info;
  info.max_context = limits_.max_context;
  info.vocab_size = limits_.vocab_size;
  info.block_size = limits_.block_size;
  info.num_blocks = limits_.groups.empty() ? 0 : limits_.groups[0].num_blocks;
  return info;
}

void EngineLoop::Drain(absl::Duration grace) {
  draining_ = true;
  std::unique_lock lock(drain_mutex_);
  const auto none_live = [this] { return num_live() <= 0; };
  if (drained_.wait_for(lock, absl::ToChronoNanoseconds(grace), none_live)) return;
  Message message = EndAllMessage{};
  if (!mailbox_.TryPush(message)) return;
  drained_.wait(lock, none_live);
}

}  // namespace penstock
