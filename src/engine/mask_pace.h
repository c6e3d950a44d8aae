// Whether a step's masks are made with the help of another thread. Waking it costs the engine's
// thread time as well, and on a busy machine so does waiting for it: both ways are tried, and the
// one that has cost the engine's thread less is taken.
// Owns what both have cost. Must not know threads or tasks.
// Threads: confined to the engine thread.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace penstock {

class MaskPace {
 public:
  /// For a step of so many tasks. Now and then the other way is taken, to see what it costs now.
  bool Helps(size_t num_tasks) {
    Size& size = SizeOf(num_tasks);
    const bool better = size.seconds[1] <= size.seconds[0];
    return ++size.num_steps % kTryEvery == 0 ? !better : better;
  }
  /// What the engine's thread spent on a step: waking, making, waiting.
  void Observe(size_t num_tasks, bool helped, double seconds) {
    double& known = SizeOf(num_tasks).seconds[helped ? 1 : 0];
    if (known == 0) {
      known = seconds;
    } else {
      known += kShare * (std::min(seconds, kMost * known) - known);
    }
  }

 private:
  static constexpr uint32_t kTryEvery = 32;
  static constexpr double kShare = 1.0 / 8, kMost = 100;  // one that took longer counts as so many
  struct Size {
    std::array<double, 2> seconds = {0, 0};  // alone, with help; 0: not known yet
    uint32_t num_steps = 0;
  };
  /// Steps of about as many tasks.
  Size& SizeOf(size_t num_tasks) {
    return sizes_[std::min<size_t>(std::bit_width(num_tasks), sizes_.size() - 1)];
  }

  std::array<Size, 12> sizes_;
};

}  // namespace penstock
