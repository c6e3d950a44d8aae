// What a step of so many rows takes, learned from the steps that were run.
// Owns its averages. Must not know what the rows are.
// Threads: confined to the engine thread.
#pragma once

#include <array>
#include <cstdint>

namespace penstock {

class StepCosts {
 public:
  /// A step of `rows` decoded or drafted positions took `seconds`.
  void Observe(int32_t rows, double seconds);
  /// Between measured sizes: interpolated. Beyond the largest: as the largest, so that a new size is
  /// tried once. 0 where nothing was measured.
  double Seconds(int32_t rows) const;

 private:
  struct Average {
    double rows = 0;
    double seconds = 0;
    int32_t count = 0;
  };
  std::array<Average, 48> sizes_;  // each row count up to 16, then four sizes to a doubling
};

}  // namespace penstock
