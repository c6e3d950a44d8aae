// The thread of one device: takes launched steps in order, computes, waits for each step's masks,
// samples.
// Owns the thread; borrows the runner. Must not know the engine.
// Threads: Launch, Sample and Collect are called by one thread; the runner is touched by the loop's
// own thread only.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "executor/model_runner.h"

namespace penstock {

class RankLoop {
 public:
  /// `pool`: whose callers' CPU the thread takes; may be null.
  RankLoop(ModelRunner* runner, const WorkerPool* pool);
  ~RankLoop();

  void Launch(StepPlan plan);
  void Sample(std::vector<OwnedMask> masks);
  /// The oldest launched step's result; waits for it.
  absl::StatusOr<StepResult> Collect();

 private:
  struct Step {
    StepPlan plan;
    std::optional<std::vector<OwnedMask>> masks;  // set by Sample
    std::optional<absl::StatusOr<StepResult>> result;
  };

  void Run();

  ModelRunner* runner_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Step> steps_;   // launched and not yet collected, oldest first; references stay valid
  size_t num_sampled_ = 0;   // of steps_: those whose masks are there
  size_t num_computed_ = 0;  // of steps_: those with a result
  bool stopping_ = false;
  std::jthread thread_;
};

}  // namespace penstock
