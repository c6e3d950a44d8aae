// Handles to single time series: what the rest of the program bumps. A default-made handle does
// nothing.
// Owns nothing; the Catalogue owns the series. Must not know names or labels.
// Threads: thread-safe.
#pragma once

#include <vector>

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
}  // namespace prometheus

namespace penstock {

class CounterHandle {
 public:
  CounterHandle() = default;
  explicit CounterHandle(prometheus::Counter* counter) : counter_(counter) {}
  void Add(double amount = 1) const;
  double value() const;

 private:
  prometheus::Counter* counter_ = nullptr;
};

class GaugeHandle {
 public:
  GaugeHandle() = default;
  explicit GaugeHandle(prometheus::Gauge* gauge) : gauge_(gauge) {}
  void Set(double value) const;
  double value() const;

 private:
  prometheus::Gauge* gauge_ = nullptr;
};

class HistogramHandle {
 public:
  HistogramHandle() = default;
  explicit HistogramHandle(prometheus::Histogram* histogram) : histogram_(histogram) {}
  /// Takes a mutex.
  void Observe(double value) const;
  /// Many observations under one lock: counts[i] of them fell into bucket i (one more entry than
  /// bounds), `sum` in total.
  void ObserveMany(const std::vector<double>& counts, double sum) const;

 private:
  prometheus::Histogram* histogram_ = nullptr;
};

}  // namespace penstock
