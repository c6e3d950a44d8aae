// Whether blocks of the second tier are worth their copy, and what of a step that takes: learned
// from the copies that were made.
// Owns one average. Must not know blocks or sequences.
// Threads: confined to the engine thread.
#pragma once

#include <cstdint>

namespace penstock {

class ImportPace {
 public:
  /// In how many positions' time `bytes` are copied that hold `positions`: as many, while nothing is
  /// known of copies or of steps. `position_seconds`: what a step takes for each; 0: not known.
  double Cost(int64_t bytes, double positions, double position_seconds) const;
  /// Whether that is less than computing them. At times the answer is yes all the same, so that a
  /// disk which was slow for a while is tried again.
  bool Pays(int64_t bytes, double positions, double position_seconds);
  /// `bytes` were copied in `seconds`.
  void Observe(int64_t bytes, double seconds);

 private:
  double per_byte_ = 0;  // seconds
  int32_t count_ = 0;    // copies that it is the average of; 0: not known yet
  int32_t refused_ = 0;  // since it last paid
};

}  // namespace penstock
