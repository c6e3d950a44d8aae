#include "backend/planning_device.h"

#include <algorithm>

#include "base/status_macros.h"

namespace penstock {
namespace {

/// What buffers of nothing point to, so that views into them are views.
alignas(64) std::byte planned_memory[64];

}  // namespace

Ops& PlanningDevice::ops() { CHECK(false); }

absl::StatusOr<DeviceBuffer> PlanningDevice::Allocate(size_t bytes) {
  bytes_ += static_cast<int64_t>(bytes);
  return AllocateHost(bytes);
}

absl::StatusOr<DeviceBuffer> PlanningDevice::AllocateHost(size_t bytes) {
  if (bytes == 0) return DeviceBuffer();
  return DeviceBuffer(planned_memory, bytes, [](void*, size_t) {});
}

absl::StatusOr<PackedLinear> PlanningDevice::Pack(int64_t k, absl::Span<const LinearPart> parts) {
  PackedLinear packed;
  packed.k = k;
  bool has_bias = false;
  for (const LinearPart& part : parts) {
    packed.n += part.rows;
    has_bias |= part.bias != nullptr;
  }
  ASSIGN_OR_RETURN(packed.weight, Allocate(packing_(k, parts, packed.segments)));
  ASSIGN_OR_RETURN(packed.bias, Allocate(has_bias ? packed.n * sizeof(float) : 0));
  return packed;
}

}  // namespace penstock
