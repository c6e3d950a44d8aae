// Many measured times: exact while they are few, then in buckets of a thousandth.
// Owns at most some megabytes, however many there are. Must not know what was measured.
// Threads: confined to its owner.
#pragma once

#include <cstdint>
#include <vector>

namespace penstock {

class Distribution {
 public:
  void Add(double seconds);
  int64_t count() const { return count_; }
  double mean() const { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }
  /// The value that a share q of all reach at most (nearest rank), 0 of none. Beyond 2^18 values, of
  /// 1 us to 10^5 s, it is within 0.1 %.
  double Quantile(double q) const;
  /// Quantiles at 0, 1/n, ..., 1; empty of none.
  std::vector<double> Curve(int n) const;

 private:
  void Fold();

  std::vector<double> exact_;
  std::vector<int64_t> buckets_;  // empty while exact
  int64_t count_ = 0;
  double sum_ = 0, max_ = 0;
};

}  // namespace penstock
