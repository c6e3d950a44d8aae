#include "backend/cpu/cpu_device.h"

#include <cstring>
#include <vector>

#include "backend/cpu/pack_linear.h"
#include "base/status_macros.h"

namespace penstock {
CpuDevice::CpuDevice(WorkerPool* pool, const KernelChoice& kernels)
    : pool_(pool), kernels_(kernels), ops_(pool, kernels) {}

void CpuDevice::CopyToDevice(void* device, const void* host, size_t bytes) {
  std::memcpy(device, host, bytes);
}
void CpuDevice::CopyOnDevice(void* to, const void* from, size_t bytes) {
  if (from == nullptr) {
    std::memset(to, 0, bytes);
  } else {
    std::memcpy(to, from, bytes);
  }
}
void CpuDevice::CopyToHost(void* host, const void* device, size_t bytes) {
  std::memcpy(host, device, bytes);
}

absl::StatusOr<PackedLinear> CpuDevice::Pack(int64_t k, absl::Span<const LinearPart> parts) {
  PackedLinear packed;
  packed.k = k;
  packed.segments = PlanSegments(parts, kernels_, *pool_);
  bool has_bias = false;
  for (const LinearPart& part : parts) {
    packed.n += part.rows;
    has_bias |= part.bias != nullptr;
  }
  ASSIGN_OR_RETURN(packed.weight, AllocateWeight(PlaceSegments(k, kernels_, packed.segments)));
  FillPanels(parts, kernels_, *pool_, packed);
  if (has_bias) {
    ASSIGN_OR_RETURN(packed.bias, AllocateWeight(packed.n * sizeof(float)));
    auto* bias = static_cast<float*>(packed.bias.data());
    for (const LinearPart& part : parts) {
      const auto element = static_cast<int64_t>(DTypeSize(part.bias_dtype));
      for (int64_t r = 0; part.bias != nullptr && r < part.rows; ++r) {
        const int64_t row = part.order.empty() ? r : part.order[r];
        kernels_.plain->convert_row(part.bias_dtype,
                                    static_cast<const char*>(part.bias) + row * element, false,
                                    bias + r, 1, 1.0f, false);
      }
      bias += part.rows;
    }
  }
  return packed;
}

}  // namespace penstock
