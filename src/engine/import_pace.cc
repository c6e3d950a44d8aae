#include "engine/import_pace.h"

#include <algorithm>

namespace penstock {
namespace {

constexpr int32_t kImportMemory = 8;    // steps that the average is made of
constexpr double kImportOutlier = 4;    // what took more than so many averages counts as so many
constexpr int32_t kRefusedInARow = 64;  // before another try

}  // namespace

double ImportPace::Cost(int64_t bytes, double positions, double position_seconds) const {
  if (count_ == 0 || position_seconds <= 0) return positions;
  return static_cast<double>(bytes) * per_byte_ / position_seconds;
}

bool ImportPace::Pays(int64_t bytes, double positions, double position_seconds) {
  const bool known = count_ > 0 && position_seconds > 0;
  const bool pays = !known || Cost(bytes, positions, position_seconds) < positions;
  if (!pays && ++refused_ < kRefusedInARow) return false;
  refused_ = 0;
  return true;
}

void ImportPace::Observe(int64_t bytes, double seconds) {
  if (bytes <= 0) return;
  double each = seconds / static_cast<double>(bytes);
  if (count_ > 2) each = std::min(each, kImportOutlier * per_byte_);
  count_ = std::min(count_ + 1, kImportMemory);
  per_byte_ += (each - per_byte_) / count_;
}

}  // namespace penstock
