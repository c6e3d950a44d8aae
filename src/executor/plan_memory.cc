#include "executor/plan_memory.h"

#include <algorithm>
#include <limits>
#include <memory>

#include "backend/planning_device.h"
#include "base/status_macros.h"
#include "executor/prediction_runner.h"
#include "model/decoder.h"
#include "model/model_shard.h"

namespace penstock {
namespace {

absl::StatusOr<std::unique_ptr<LoadedModel>> LoadOntoNothing(LoadOptions load) {
  load.planning = true;
  load.packed_cache.clear();
  load.progress = nullptr;
  return LoadModel(load);
}

/// Sequences of max_len that all groups have room for.
int64_t SequencesThatFit(const ExecutorLimits& limits) {
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const CacheGroup& group : limits.groups) {
    int64_t positions = limits.max_context;
    if (group.retention == CacheRetention::kWindow) {
      positions = std::min<int64_t>(
          positions, int64_t{group.window} + limits.max_step_tokens + 2 * limits.block_size);
    }
    const int64_t blocks = group.retention == CacheRetention::kRecurrent
                               ? 2
                               : (positions + limits.block_size - 1) / limits.block_size;
    least = std::min(least, group.num_blocks / blocks);
  }
  return limits.groups.empty() ? 0 : least;
}

int64_t BytesOn(const Device& planned) {
  return static_cast<const PlanningDevice&>(planned).bytes();
}

}  // namespace

int64_t PlannedBytes(const LoadedModel& model) {
  int64_t bytes = BytesOn(*model.device);
  for (const LoadedRank& rank : model.ranks) {
    if (rank.device != model.device.get()) bytes += BytesOn(*rank.device);
  }
  return bytes;
}

int64_t MostStepBytes(const ModelConfig& config, const RunnerOptions& runner, int32_t on_gpus) {
  const auto element = static_cast<int64_t>(DTypeSize(runner.dtype));
  const int64_t drawn = int64_t{runner.num_slots} * (1 + runner.max_drafts);
  const int64_t scored = std::min(kScoreRows, runner.max_step_tokens);
  const int64_t pooled =
      config.pooling == Pooling::kLast ? 0 : std::max(runner.max_step_tokens, runner.max_len);
  const int64_t bytes = (drawn + scored) * config.vocab_size * 4 +
                        std::max({drawn, scored, pooled}) * config.hidden_size * element;
  // Partial sums of products, rows rounded to bytes, plans, what the driver has for itself.
  constexpr int64_t kOfProducts = int64_t{256} << 20;
  const int64_t of_rank =
      kGpuDriverBytes + kOfProducts + int64_t{4} * runner.max_step_tokens * config.hidden_size;
  return bytes + on_gpus * of_rank;
}

absl::StatusOr<int64_t> ActivationBytes(const ModelConfig& config, const RunnerOptions& runner,
                                        int32_t ranks) {
  if (config.encoder.present) return 0;
  const ModelConfig own = ranks > 1 ? ShardOf(config, {0, ranks}) : config;
  const ModelWeights none;
  PlanningDevice nothing("", false, nullptr);
  RETURN_IF_ERROR(
      Decoder::Make(&own, &none, &nothing, runner.dtype, runner.max_step_tokens, runner.max_len, 0)
          .status());
  return ranks * nothing.bytes();
}

absl::StatusOr<int64_t> DraftActivationBytes(const LoadedModel& model,
                                             const RunnerOptions& runner) {
  const ModelConfig* draft = DraftConfig(model, runner);
  if (draft == nullptr) return 0;
  ASSIGN_OR_RETURN(int64_t bytes, ActivationBytes(*draft, runner, 1));
  if (StateBytes(model.config) > 0) {
    bytes += StateRewind::Bytes(
        model.config, {runner.dtype, runner.max_step_tokens, runner.num_slots, runner.max_drafts});
  }
  if (runner.draft != nullptr) return bytes;
  DrafterOptions options;
  options.dtype = runner.dtype;
  options.cache.max_step_tokens = runner.max_step_tokens;
  options.cache.num_slots = runner.num_slots;
  options.max_drafts = runner.max_drafts;
  return bytes + PredictionRunner::ActivationBytes(*draft, options);
}

absl::StatusOr<MemoryPlan> PlanMemory(
    LoadOptions load, const LoadOptions* draft,
    const std::function<absl::StatusOr<RunnerOptions>(LoadedModel&, LoadedModel* draft)>&
        options_of) {
  ASSIGN_OR_RETURN(const std::unique_ptr<LoadedModel> model, LoadOntoNothing(std::move(load)));
  std::unique_ptr<LoadedModel> guesses;
  if (draft != nullptr) {
    ASSIGN_OR_RETURN(guesses, LoadOntoNothing(*draft));
  }
  const auto planned = [&] {
    return PlannedBytes(*model) + (guesses != nullptr ? PlannedBytes(*guesses) : 0);
  };
  MemoryPlan plan;
  plan.device = std::string(model->device->name());
  plan.note = model->note;
  plan.absent = model->absent;
  plan.ranks = std::max<int32_t>(1, static_cast<int32_t>(model->ranks.size()));
  plan.weight_bytes = planned();
  ASSIGN_OR_RETURN(RunnerOptions options, options_of(*model, guesses.get()));
  const bool tier_on_disk = !options.tier.folder.empty();
  options.tier.folder.clear();  // nothing is made there
  ASSIGN_OR_RETURN(const std::unique_ptr<ModelRunner> runner,
                   ModelRunner::Make(model.get(), options));
  const ExecutorLimits& limits = runner->limits();
  for (const CacheGroup& group : limits.groups) {
    plan.kv_bytes += int64_t{group.num_blocks} * group.block_bytes;
    if (!tier_on_disk) plan.tier_bytes += int64_t{group.tier_blocks} * group.block_bytes;
  }
  plan.tier_beside = !model->device->shares_host_memory();
  plan.kv_bytes += StateBytes(model->config) * options.num_slots;
  plan.activation_bytes = planned() - plan.weight_bytes - plan.kv_bytes;
  plan.step_bytes =
      MostStepBytes(model->config, options, model->device->shares_host_memory() ? 0 : plan.ranks);
  plan.rank_bytes = plan.total();
  if (plan.ranks > 1) {
    int64_t most = 0;
    for (const LoadedRank& rank : model->ranks) most = std::max(most, BytesOn(*rank.device));
    plan.rank_bytes =
        most + MostStepBytes(model->config, options, model->device->shares_host_memory() ? 0 : 1);
  }
  plan.max_len = limits.max_context;
  plan.sequences = SequencesThatFit(limits);
  if (!limits.groups.empty())
    plan.kv_tokens = int64_t{limits.groups[0].num_blocks} * limits.block_size;
  return plan;
}

}  // namespace penstock
