// Asks the driver how GPUs are, on a thread of its own: a driver in trouble may take forever to answer,
// and nobody else is to wait for that.
// Owns the thread and the last answer. Must not know which library answers.
// Threads: thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "metrics/gpu_figures.h"

namespace penstock {

class GpuLoop {
 public:
  using Read = std::function<std::vector<GpuFigures>()>;
  using Open = std::function<absl::StatusOr<Read>()>;

  /// Both are called on the loop's thread: `open` once, `read` whenever somebody asks, and where nobody
  /// does for `period`. Where `open` fails nothing is ever told of GPUs, and on_failure says why, once.
  GpuLoop(Open open, std::function<void(const absl::Status&)> on_failure, absl::Duration period);
  /// Waits for an answer for as long as Get does, then leaves the thread to itself.
  ~GpuLoop();
  GpuLoop(const GpuLoop&) = delete;

  /// As the GPUs are now. Where that is not known within `patience` the GPUs of the last answer, none
  /// of them up; while an answer is late already nobody waits for it.
  std::vector<GpuFigures> Get(absl::Duration patience = absl::Seconds(1));

 private:
  struct State;
  static void Run(const std::shared_ptr<State>& state, const Open& open,
                  const std::function<void(const absl::Status&)>& on_failure,
                  absl::Duration period);

  const std::shared_ptr<State> state_;  // the thread may outlive the loop
};

}  // namespace penstock
