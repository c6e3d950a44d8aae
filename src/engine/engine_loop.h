// The engine: one thread that plans, launches, collects and commits, and the mailbox that feeds it.
// Owns the scheduler, the executor and the thread. Must not know text, wire or devices.
// Threads: thread-safe, but for RunOnce, which is for tests and confined to their thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <variant>

#include "base/clock.h"
#include "base/mailbox.h"
#include "engine/admission_rate.h"
#include "engine/mask_loop.h"
#include "engine/mask_pace.h"
#include "engine/scheduler.h"
#include "metrics/catalogue.h"
#include "penstock/engine.h"
#include "penstock/executor.h"

namespace penstock {

struct EngineOptions {
  SchedulerOptions scheduler;
  int32_t max_queue = 1024;               // requests that wait, beyond those that run
  const Clock* clock = nullptr;           // outlives the engine
  EngineMetrics metrics;                  // default-made handles do nothing
  bool always_help_with_masks = false;    // for tests; else where it pays
  std::function<void()> on_thread_start;  // called by the engine's thread first; may be empty
};

class EngineLoop final : public Engine {
 public:
  EngineLoop(std::unique_ptr<Executor> executor, EngineOptions options);
  /// Ends live requests with UNAVAILABLE and joins the thread.
  ~EngineLoop() override;

  /// Starts the thread. Without it, RunOnce drives the engine.
  void Start();
  /// One turn of the loop; false where there is nothing to do.
  bool RunOnce();

  absl::Status Submit(RequestId id, GenerateRequest request,
                      std::shared_ptr<TokenSink> sink) override;
  void Cancel(RequestId id) override;
  void Control(Command command, DoneCallback done) override;
  EngineLoad load() const override;
  EngineInfo info() const override;
  /// Why load() is not healthy; OK while it is.
  absl::Status fault() const { return healthy_ ? absl::OkStatus() : fault_; }
  void Drain(absl::Duration grace) override;

  /// For tests; on the engine's thread, or before Start.
  const Scheduler& scheduler() const { return scheduler_; }

 private:
  struct SubmitMessage {
    RequestId id;
    GenerateRequest request;
    std::shared_ptr<TokenSink> sink;
    absl::Time submitted;
  };
  struct CancelMessage {
    RequestId id;
  };
  struct ControlMessage {
    Command command;
    DoneCallback done;
  };
  struct EndAllMessage {};
  using Message = std::variant<SubmitMessage, CancelMessage, ControlMessage, EndAllMessage>;

  void Run();
  void ReadMailbox();
  void Handle(SubmitMessage message);
  void Handle(CancelMessage message) { scheduler_.Cancel(message.id); }
  void Handle(ControlMessage message);
  /// Unloads adapters that wait for the last of their requests.
  void UnloadIdle();
  void Handle(EndAllMessage) { scheduler_.EndAll(FinishReason::kCancelled, absl::OkStatus()); }
  bool LaunchNext();
  void WakeMaskLoop();
  /// Masks and sampling of the step that has just been launched.
  absl::Status SampleNext(const StepPlan& plan, absl::Duration& forward);
  void CollectOldest();
  void Fail(const absl::Status& status);
  void WaitForWork();
  void Publish();
  void WakeDrain();
  void ExportMetrics();
  void ExportTierMetrics();
  int32_t num_steps_in_flight() const { return static_cast<int32_t>(in_flight_.size()); }
  int64_t num_live() const { return num_submitted_.load() - num_finished_.load(); }

  const std::unique_ptr<Executor> executor_;
  const EngineOptions options_;
  const ExecutorLimits limits_;
  Scheduler scheduler_;
  MaskPace mask_pace_;
  std::optional<bool> mask_help_;      // in the step that is launched; none: nothing was offered
  absl::Duration mask_wake_;           // what that took
  std::optional<MaskLoop> masks_;      // once started; goes before the scheduler
  Mailbox<Message> mailbox_{0};        // Submit bounds what can be in it
  std::deque<DoneCallback> controls_;  // sent to the executor, not yet reported
  std::map<AdapterId, std::vector<DoneCallback>> unloads_;  // that wait for requests
  struct Launched {
    StepPlan plan;
    absl::Time at;
    absl::Duration forward;  // of it, what was computed before Collect
  };
  std::deque<Launched> in_flight_;  // steps, oldest first
  absl::Time last_collect_ = absl::InfinitePast();
  absl::Status fault_;          // sticky; others may read it where healthy_ says so
  SchedulerCounters exported_;  // what the metrics already hold
  struct {
    int64_t num_exported = 0, num_imported = 0, num_evicted = 0, num_lost = 0;
    int64_t exported_bytes = 0, imported_bytes = 0;
  } exported_tier_;  // likewise

  std::atomic<bool> stopping_{false};
  std::atomic<bool> draining_{false};
  std::atomic<bool> healthy_{true};
  std::atomic<int64_t> num_submitted_{0};  // accepted by Submit
  std::atomic<int64_t> num_finished_{0};   // of those, OnDone has been called
  std::atomic<int32_t> num_running_{0};
  std::atomic<int64_t> num_waiting_tokens_{0};
  std::atomic<double> kv_usage_{0};
  std::atomic<int64_t> last_step_nanos_{0};  // since the Unix epoch, by the engine's clock

  std::atomic<double> requests_per_second_{0}, tokens_per_second_{0};
  AdmissionRate admissions_;  // the engine's thread's

  mutable std::mutex lists_mutex_;  // guards the lists
  std::vector<AdapterId> running_adapters_, waiting_adapters_;
  std::shared_ptr<const std::vector<WaitingLoad>> waiting_;
  uint64_t published_waiting_ = 0;   // WaitQueue::version; the engine's thread's
  uint64_t published_adapters_ = 0;  // AdapterUse::version; the engine's thread's

  std::mutex drain_mutex_;
  std::condition_variable drained_;  // num_finished_ has reached num_submitted_
  std::thread thread_;
};

}  // namespace penstock
