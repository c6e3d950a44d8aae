// How fast an engine takes requests from its queue, learned while some wait.
// Owns decaying sums. Must not know sequences.
// Threads: confined to the engine thread.
#pragma once

#include <cmath>
#include <cstdint>

#include "absl/time/time.h"

namespace penstock {

class AdmissionRate {
 public:
  /// After a step: all requests begun so far with their prompt tokens, and whether some still wait.
  void Observe(absl::Time now, int64_t num_begun, int64_t begun_tokens, bool some_wait) {
    const double seconds = absl::ToDoubleSeconds(now - last_);
    if (waited_ && seconds > 0) {
      const double keep = std::exp(-seconds / kMemorySeconds);
      seconds_ = seconds_ * keep + seconds;
      requests_ = requests_ * keep + static_cast<double>(num_begun - num_begun_);
      tokens_ = tokens_ * keep + static_cast<double>(begun_tokens - begun_tokens_);
    }
    last_ = now;
    num_begun_ = num_begun;
    begun_tokens_ = begun_tokens;
    waited_ = some_wait;
  }
  /// Per second; 0 where nothing waited long enough to tell.
  double requests() const { return seconds_ < kLeastSeconds ? 0 : requests_ / seconds_; }
  double tokens() const { return seconds_ < kLeastSeconds ? 0 : tokens_ / seconds_; }

 private:
  static constexpr double kMemorySeconds = 10;  // older than this counts little
  static constexpr double kLeastSeconds = 0.5;

  absl::Time last_;
  int64_t num_begun_ = 0, begun_tokens_ = 0;
  bool waited_ = false;  // since `last_`
  double seconds_ = 0, requests_ = 0, tokens_ = 0;
};

}  // namespace penstock
