// The executor of one device in this process. Depth 1 computes inside Collect, on the caller's
// thread; depth 2 on a rank loop of its own, so that step k computes while step k + 1 is planned.
// Owns model, cache and, at depth 2, one thread; borrows the WorkerPool. Must not know requests.
// Threads: confined to the engine thread.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "executor/load_model.h"
#include "executor/model_runner.h"
#include "penstock/executor.h"

namespace penstock {

struct ExecutorOptions {
  LoadOptions load;
  RunnerOptions runner;
};

/// Loads the model and makes its executor. Errors are one line: what, where, what was expected.
absl::StatusOr<std::unique_ptr<Executor>> MakeLocalExecutor(const ExecutorOptions& options);

/// The same over a model that is already loaded.
/// `draft` guesses for it, up to options.max_drafts tokens at once; null: none does.
absl::StatusOr<std::unique_ptr<Executor>> MakeLocalExecutor(
    std::unique_ptr<LoadedModel> model, const RunnerOptions& options,
    std::unique_ptr<LoadedModel> draft = nullptr);

}  // namespace penstock
