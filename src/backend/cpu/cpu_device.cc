#include "backend/cpu/cpu_device.h"

#include <sys/mman.h>

#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/cpu/pack_linear.h"
#include "base/status_macros.h"

namespace penstock {
CpuDevice::CpuDevice(WorkerPool* pool, const KernelChoice& kernels)
    : pool_(pool), kernels_(kernels), ops_(pool, kernels) {}

absl::StatusOr<DeviceBuffer> CpuDevice::Allocate(size_t bytes) {
  if (bytes == 0) return DeviceBuffer();
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for ", bytes, " bytes"));
  }
  ::madvise(data, bytes,
            MADV_HUGEPAGE);  // a kernel without huge pages refuses, which changes only the speed
  return DeviceBuffer(data, bytes, [](void* p, size_t n) { ::munmap(p, n); });
}

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
  ASSIGN_OR_RETURN(packed.weight, Allocate(PlaceSegments(k, kernels_, packed.segments)));
  FillPanels(parts, kernels_, *pool_, packed);
  if (has_bias) {
    ASSIGN_OR_RETURN(packed.bias, Allocate(packed.n * sizeof(float)));
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
