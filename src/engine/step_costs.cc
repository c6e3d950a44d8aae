#include "engine/step_costs.h"

#include <algorithm>
#include <bit>

namespace penstock {
namespace {

constexpr int32_t kMemory = 16;  // steps that an average is made of
constexpr double kOutlier = 3;   // a step that took longer than so many averages counts as so many

size_t SizeOf(int32_t rows, size_t num_sizes) {
  const auto r = static_cast<uint32_t>(std::max(rows, 1));
  if (r <= 16) return r - 1;
  const int32_t doubling = std::bit_width(r) - 1;  // 4: rows 17 to 31
  const uint32_t quarter = (r >> (doubling - 2)) & 3;
  return std::min<size_t>(16 + 4 * (doubling - 4) + quarter, num_sizes - 1);
}

}  // namespace

void StepCosts::Observe(int32_t rows, double seconds) {
  Average& a = sizes_[SizeOf(rows, sizes_.size())];
  if (a.count > 2) seconds = std::min(seconds, kOutlier * a.seconds);
  a.count = std::min(a.count + 1, kMemory);
  a.seconds += (seconds - a.seconds) / a.count;
  a.rows += (rows - a.rows) / a.count;
}

double StepCosts::Seconds(int32_t rows) const {
  const Average* below = nullptr;
  for (const Average& a : sizes_) {
    if (a.count == 0) continue;
    if (a.rows <= rows) {
      below = &a;
      continue;
    }
    if (below == nullptr) return a.seconds;
    const double share = (rows - below->rows) / (a.rows - below->rows);
    return below->seconds + share * (a.seconds - below->seconds);
  }
  return below == nullptr ? 0 : below->seconds;
}

}  // namespace penstock
