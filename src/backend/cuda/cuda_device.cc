#include "backend/cuda/cuda_device.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/weight_pack.h"
#include "base/half.h"
#include "base/status_macros.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

float BiasAt(const LinearPart& part, int64_t row) {
  if (part.bias_dtype == DType::kFloat32) {
    float value;
    std::memcpy(&value, static_cast<const char*>(part.bias) + row * sizeof value, sizeof value);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, static_cast<const char*>(part.bias) + row * sizeof half, sizeof half);
  return part.bias_dtype == DType::kBFloat16 ? Bf16ToFloat(half) : Fp16ToFloat(half);
}

/// Of all parts' rows; empty: none has any.
std::vector<float> BiasOf(absl::Span<const LinearPart> parts) {
  std::vector<float> bias;
  const bool any = std::any_of(parts.begin(), parts.end(),
                               [](const LinearPart& part) { return part.bias != nullptr; });
  for (const LinearPart& part : parts) {
    for (int64_t r = 0; any && r < part.rows; ++r) {
      const int64_t row = part.order.empty() ? r : part.order[r];
      bias.push_back(part.bias == nullptr ? 0.0f : BiasAt(part, row));
    }
  }
  return bias;
}

}  // namespace

void CudaDevice::CopyToDevice(void* device, const void* host, size_t bytes) {
  if (bytes == 0) return;
  // From memory that is not pinned it is read before the call returns.
  stream_->Enqueue("copy to the device", [&](cudaStream_t stream) {
    return cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream);
  });
}

void CudaDevice::CopyOnDevice(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  stream_->Enqueue("copy on the device", [&](cudaStream_t stream) {
    return from == nullptr ? cudaMemsetAsync(to, 0, bytes, stream)
                           : cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
  });
}

void CudaDevice::CopyToHost(void* host, const void* device, size_t bytes) {
  if (bytes == 0) return;
  stream_->Enqueue("copy to the host", [&](cudaStream_t stream) {
    const cudaError_t error = cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream);
    return error != cudaSuccess ? error : cudaStreamSynchronize(stream);
  });
}

absl::StatusOr<PackedLinear> CudaDevice::Pack(int64_t k, absl::Span<const LinearPart> parts) {
  PackedLinear packed;
  packed.k = k;
  for (const LinearPart& part : parts) packed.n += part.rows;
  packed.segments = PlanCudaWeights(parts, k, numbers_, pool_);
  std::vector<std::byte> image(CudaWeightBytes(packed.segments, k));
  FillCudaWeights(parts, k, packed.segments, pool_, image.data());
  ASSIGN_OR_RETURN(packed.weight, Allocate(image.size()));
  CopyToDevice(packed.weight.data(), image.data(), image.size());
  const std::vector<float> bias = BiasOf(parts);
  ASSIGN_OR_RETURN(packed.bias, Allocate(bias.size() * sizeof(float)));
  CopyToDevice(packed.bias.data(), bias.data(), bias.size() * sizeof(float));
  return packed;
}

absl::StatusOr<OpenedCuda> OpenCuda(const CudaOptions& options) {
  ASSIGN_OR_RETURN(std::unique_ptr<CudaStream> stream,
                   CudaStream::Open(options.name, options.device));
  OpenedCuda opened;
  const cudaDeviceProp& gpu = stream->properties();
  opened.kernels = absl::StrCat("cuda ", gpu.major, ".", gpu.minor, " on ", gpu.name);
  opened.abilities = CudaAbilities(options.numbers);
  auto device = std::make_unique<CudaDevice>(std::move(stream), options);
  const CudaProducts& products = device->products();
  opened.note = products.note();
  if (!products.library().empty()) absl::StrAppend(&opened.kernels, ", ", products.library());
  opened.memory = [stream = &device->stream()] { return stream->Memory(); };
  opened.device = std::move(device);
  return opened;
}

}  // namespace penstock::PENSTOCK_KERNELS
