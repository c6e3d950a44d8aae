// What serving a model takes of its device, before anything is loaded.
// Owns nothing. Must not know configuration or the command line.
// Threads: confined to one thread; rows are read on the pool.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "executor/load_model.h"
#include "executor/model_runner.h"

namespace penstock {

struct MemoryPlan {
  std::string device;
  int32_t ranks = 1;  // that share each layer; all bytes are of all of them
  int64_t weight_bytes = 0;
  int64_t kv_bytes = 0;          // blocks, snapshots and states, of a draft model as well
  int64_t activation_bytes = 0;  // of one step, and tables of rotations
  int64_t tier_bytes = 0;        // of the host's memory for the KV cache's second tier
  bool tier_beside = false;      // that is not the device's memory: besides the total
  int64_t step_bytes = 0;        // at most, besides, once steps need it: logits, a GPU's scratch
  int64_t rank_bytes = 0;        // of the total, what the rank that takes most does
  int32_t max_len = 0;
  int64_t kv_tokens = 0;  // positions that fit the cache
  int64_t sequences = 0;  // of max_len at once, at least; 0: the model has no cache
  std::string note;       // what an operator should know about the device; empty: nothing
  absl::Status absent;    // why a device cannot be opened, its memory asked for; OK: all can

  int64_t at_start() const {
    return weight_bytes + kv_bytes + activation_bytes + (tier_beside ? 0 : tier_bytes);
  }
  int64_t total() const { return at_start() + step_bytes; }
};

/// Of the bytes of a step, what a GPU's driver has for itself, which nobody here allocates.
inline constexpr int64_t kGpuDriverBytes = int64_t{640} << 20;

/// What steps need beyond what is there at start, at most. `on_gpus`: ranks that GPUs compute, 0: none
/// does.
int64_t MostStepBytes(const ModelConfig& config, const RunnerOptions& runner, int32_t on_gpus);

/// What the rows of a step and the tables of rotations take from the start, of all ranks together.
absl::StatusOr<int64_t> ActivationBytes(const ModelConfig& config, const RunnerOptions& runner,
                                        int32_t ranks);

/// Likewise of what guesses for `model`; 0: nothing does.
absl::StatusOr<int64_t> DraftActivationBytes(const LoadedModel& model, const RunnerOptions& runner);

/// What a model that was loaded in planning takes so far.
int64_t PlannedBytes(const LoadedModel& model);

/// Reads no more of the model than loading it would, and holds nothing of it. `draft`: guesses for
/// it; null: none does. `options_of`: how the loaded model, and the draft, would be run.
absl::StatusOr<MemoryPlan> PlanMemory(
    LoadOptions load, const LoadOptions* draft,
    const std::function<absl::StatusOr<RunnerOptions>(LoadedModel&, LoadedModel* draft)>&
        options_of);

}  // namespace penstock
