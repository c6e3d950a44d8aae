#include "executor/local_executor.h"

#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "executor/rank_loop.h"
#include "executor/warm_up.h"

namespace penstock {
namespace {

/// What a stalled thread may go on to use at any time stays to the process's end.
void KeepForever(std::unique_ptr<ModelRunner> runner, std::unique_ptr<LoadedModel> model) {
  using Kept = std::vector<std::pair<std::unique_ptr<LoadedModel>, std::unique_ptr<ModelRunner>>>;
  static std::mutex mutex;
  static auto* const kept = new Kept;
  std::lock_guard lock(mutex);
  kept->emplace_back(std::move(model), std::move(runner));
}

class LocalExecutor final : public Executor {
 public:
  LocalExecutor(std::unique_ptr<LoadedModel> model, std::unique_ptr<LoadedModel> draft,
                std::unique_ptr<ModelRunner> runner, const RunnerOptions& options)
      : model_(std::move(model)),
        draft_(std::move(draft)),
        runner_(std::move(runner)),
        adapters_(options.adapters) {
    if (limits().pipeline_depth > 1)
      loop_ = std::make_unique<RankLoop>(runner_.get(), options.pool);
  }

  ~LocalExecutor() override {
    loop_.reset();
    if (!runner_->abandoned()) return;
    KeepForever(std::move(runner_), std::move(model_));
  }

  const ExecutorLimits& limits() const override { return runner_->limits(); }

  absl::Status Launch(const StepPlan& plan) override {
    RETURN_IF_ERROR(fault_);
    if (static_cast<int32_t>(launched_.size()) >= limits().pipeline_depth) {
      return absl::FailedPreconditionError(
          "a step was launched before the oldest one was collected");
    }
    if (!launched_.empty() && !launched_.back().sampled) {
      return absl::FailedPreconditionError("a step was launched before the last one was sampled");
    }
    Launched& step = launched_.emplace_back();
    step.id = plan.step;
    step.num_slices = plan.slices.size();
    step.controls = std::exchange(controls_, {});
    step.unloads = std::exchange(unloads_, {});
    if (loop_ != nullptr) {
      loop_->Launch(plan);
    } else {
      step.plan = plan;
    }
    return absl::OkStatus();
  }

  absl::Status Forward() override {
    RETURN_IF_ERROR(fault_);
    if (loop_ != nullptr || launched_.empty() || launched_.back().computed) return absl::OkStatus();
    fault_ = runner_->Forward(launched_.back().plan);
    launched_.back().computed = true;
    return fault_;
  }

  absl::Status Sample(StepId id, absl::Span<const RowMask> masks) override {
    RETURN_IF_ERROR(fault_);
    if (launched_.empty() || launched_.back().id != id || launched_.back().sampled) {
      return absl::FailedPreconditionError(
          absl::StrCat("step ", id.value, " is not the one to be sampled"));
    }
    Launched& step = launched_.back();
    const size_t num_words = (limits().vocab_size + 31) / 32;
    std::vector<OwnedMask> owned;
    for (const RowMask& mask : masks) {
      if (mask.slice < 0 || mask.slice >= static_cast<int32_t>(step.num_slices) ||
          mask.words.size() != num_words) {
        return absl::InvalidArgumentError(absl::StrCat("step ", id.value, ": a mask for slice ",
                                                       mask.slice, " with ", mask.words.size(),
                                                       " words, expected ", num_words));
      }
      owned.push_back({mask.slice, mask.output, {mask.words.begin(), mask.words.end()}, mask.last});
    }
    step.sampled = true;
    if (loop_ != nullptr) {
      loop_->Sample(std::move(owned));
    } else {
      step.masks = std::move(owned);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<StepResult> Collect() override {
    RETURN_IF_ERROR(fault_);
    if (launched_.empty() || !launched_.front().sampled) {
      return absl::FailedPreconditionError("no step is launched and sampled");
    }
    absl::StatusOr<StepResult> result =
        loop_ != nullptr ? loop_->Collect() : Compute(launched_.front());
    if (!result.ok()) {
      fault_ = result.status();
      return fault_;
    }
    result->controls = std::move(launched_.front().controls);
    // Steps launched before the command are collected by now.
    for (const AdapterId id : launched_.front().unloads) adapters_->Remove(id);
    launched_.pop_front();
    return result;
  }

  absl::Status Control(const Command& command) override {
    RETURN_IF_ERROR(fault_);
    switch (command.kind) {
      case CommandKind::kResetCache:
        break;  // which blocks hold what is the engine's knowledge
      case CommandKind::kLoadAdapter:
        if (adapters_ == nullptr)
          return absl::UnimplementedError("load adapter: lora is not configured for this model");
        // One that is there already was read beside the steps.
        if (adapters_->Find(command.adapter) == nullptr)
          RETURN_IF_ERROR(adapters_->Load(command.adapter, command.path));
        break;
      case CommandKind::kUnloadAdapter:
        if (adapters_ == nullptr)
          return absl::UnimplementedError("unload adapter: lora is not configured for this model");
        unloads_.push_back(command.adapter);
        break;
      case CommandKind::kPark:
        return absl::UnimplementedError("park: parking a model is not supported");
      case CommandKind::kWake:
        return absl::UnimplementedError("wake: parking a model is not supported");
      case CommandKind::kExportCache:
        return absl::UnimplementedError("export cache: not supported");
    }
    controls_.push_back(absl::OkStatus());
    return absl::OkStatus();
  }

 private:
  struct Launched {
    StepId id;
    size_t num_slices = 0;
    bool computed = false;  // depth 1: the forward pass, before Collect
    bool sampled = false;
    std::vector<absl::Status> controls;
    std::vector<AdapterId> unloads;
    StepPlan plan;                 // depth 1: computed in Collect
    std::vector<OwnedMask> masks;  // depth 1
  };

  absl::StatusOr<StepResult> Compute(const Launched& step) {
    if (!step.computed) RETURN_IF_ERROR(runner_->Forward(step.plan));
    return runner_->Sample(step.masks);
  }

  std::unique_ptr<LoadedModel> model_;
  std::unique_ptr<LoadedModel> draft_;  // null: no draft model
  std::unique_ptr<ModelRunner> runner_;
  std::shared_ptr<AdapterStore> adapters_;  // null: none are supported
  std::unique_ptr<RankLoop> loop_;          // depth 2; stops before what it borrows goes
  std::deque<Launched> launched_;
  std::vector<absl::Status> controls_;
  std::vector<AdapterId> unloads_;
  absl::Status fault_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> MakeLocalExecutor(std::unique_ptr<LoadedModel> model,
                                                            const RunnerOptions& options,
                                                            std::unique_ptr<LoadedModel> draft) {
  if (options.pipeline_depth < 1 || options.pipeline_depth > 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("pipeline_depth is ", options.pipeline_depth, ", expected 1 or 2"));
  }
  RunnerOptions whole = options;
  whole.draft = draft.get();
  ASSIGN_OR_RETURN(std::unique_ptr<ModelRunner> runner, ModelRunner::Make(model.get(), whole));
  if (options.before_warm_up) {
    options.before_warm_up();
    const absl::Status warm = WarmUp(*runner, /*wide=*/!model->device->shares_host_memory());
    if (!warm.ok() && runner->abandoned()) KeepForever(std::move(runner), std::move(model));
    RETURN_IF_ERROR(warm);
  }
  return std::make_unique<LocalExecutor>(std::move(model), std::move(draft), std::move(runner),
                                         whole);
}

absl::StatusOr<std::unique_ptr<Executor>> MakeLocalExecutor(const ExecutorOptions& options) {
  ASSIGN_OR_RETURN(std::unique_ptr<LoadedModel> model, LoadModel(options.load));
  return MakeLocalExecutor(std::move(model), options.runner);
}

}  // namespace penstock
