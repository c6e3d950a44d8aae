#include "bench/distribution.h"

#include <algorithm>
#include <cmath>

namespace penstock {
namespace {

constexpr size_t kExactValues = size_t{1} << 18;
constexpr double kLeast = 1e-6, kMost = 1e5, kStep = 1e-3;

size_t BucketOf(double seconds) {
  return static_cast<size_t>(std::log(std::clamp(seconds, kLeast, kMost) / kLeast) /
                             std::log1p(kStep));
}

/// The rank, from 0, of the nearest-rank quantile.
int64_t RankOf(double q, int64_t count) {
  const auto rank = static_cast<int64_t>(std::ceil(q * static_cast<double>(count)));
  return std::clamp<int64_t>(rank - 1, 0, count - 1);
}

}  // namespace

void Distribution::Add(double seconds) {
  ++count_;
  sum_ += seconds;
  max_ = std::max(max_, seconds);
  if (!buckets_.empty()) {
    ++buckets_[BucketOf(seconds)];
    return;
  }
  exact_.push_back(seconds);
  if (exact_.size() > kExactValues) Fold();
}

void Distribution::Fold() {
  buckets_.assign(BucketOf(kMost) + 1, 0);
  for (const double seconds : exact_) ++buckets_[BucketOf(seconds)];
  exact_ = {};
}

double Distribution::Quantile(double q) const {
  if (count_ == 0) return 0;
  int64_t rank = RankOf(q, count_);
  if (buckets_.empty()) {
    std::vector<double> values = exact_;
    std::nth_element(values.begin(), values.begin() + rank, values.end());
    return values[rank];
  }
  if (rank == count_ - 1) return max_;
  size_t bucket = 0;
  while (rank >= buckets_[bucket]) rank -= buckets_[bucket++];
  return kLeast * std::exp((static_cast<double>(bucket) + 0.5) * std::log1p(kStep));
}

std::vector<double> Distribution::Curve(int n) const {
  std::vector<double> out;
  if (count_ == 0) return out;
  std::vector<double> sorted = exact_;
  std::sort(sorted.begin(), sorted.end());
  for (int i = 0; i <= n; ++i) {
    const double q = static_cast<double>(i) / n;
    out.push_back(buckets_.empty() ? sorted[RankOf(q, count_)] : Quantile(q));
  }
  return out;
}

}  // namespace penstock
