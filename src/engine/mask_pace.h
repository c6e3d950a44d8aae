// Whether a step's masks are worth waking another thread for: waking costs the engine's thread time
// as well, on some machines as much as ten masks.
// Owns what both have cost. Must not know threads or tasks.
// Threads: confined to the engine thread.
#pragma once

#include <algorithm>
#include <cstddef>

namespace penstock {

class MaskPace {
 public:
  bool Pays(size_t num_tasks) {
    if (static_cast<double>(num_tasks) * task_ >= kMargin * wake_) return true;
    wake_ =
        std::max(kLeastWake, wake_ * kFade);  // one that took long is not held against it for ever
    return false;
  }
  void ObserveWake(double seconds) { wake_ += kShare * (seconds - wake_); }
  /// Made by whomever.
  void ObserveMasks(size_t num_tasks, double seconds) {
    if (num_tasks > 0) task_ += kShare * (seconds / static_cast<double>(num_tasks) - task_);
  }

 private:
  static constexpr double kMargin = 2, kShare = 1.0 / 16, kFade = 0.99;
  static constexpr double kLeastWake = 2e-6;

  double task_ = 5e-6, wake_ = 5e-6;  // seconds
};

}  // namespace penstock
