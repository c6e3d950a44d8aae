#include "backend/cuda/cuda_staging.h"

#include <algorithm>

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr size_t kLeastBytes = 4096;

/// Room for some more than is needed now, so that a growing batch does not allocate at each step.
size_t RoomFor(size_t bytes) { return std::max(kLeastBytes, bytes + bytes / 4); }

}  // namespace

PinnedMemory::~PinnedMemory() {
  if (data_ != nullptr) cudaFreeHost(data_);
}

std::byte* PinnedMemory::Get(CudaStream& stream, size_t bytes) {
  if (bytes > bytes_ && stream.ok()) {
    if (data_ != nullptr) cudaFreeHost(data_);
    data_ = nullptr;
    bytes_ = RoomFor(bytes);
    stream.Enqueue("pin memory", [&](cudaStream_t) { return cudaMallocHost(&data_, bytes_); });
    if (!stream.ok()) bytes_ = 0;
  }
  return stream.ok() ? static_cast<std::byte*>(data_) : nullptr;
}

void* Scratch::Get(CudaStream& stream, size_t bytes) {
  if (bytes > buffer_.bytes() && stream.ok()) {
    absl::StatusOr<DeviceBuffer> grown = stream.Allocate(RoomFor(bytes));
    if (!grown.ok()) {
      stream.Fail(grown.status());
    } else {
      buffer_ = *std::move(grown);
    }
  }
  return stream.ok() ? buffer_.data() : nullptr;
}

CudaStaging::~CudaStaging() {
  for (Slot& slot : slots_) {
    if (slot.in_use) cudaEventDestroy(slot.sent);
  }
}

void CudaStaging::Send(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  Slot& slot = slots_[next_++ % slots_.size()];
  stream_.Enqueue("send", [&](cudaStream_t) {
    if (slot.in_use) return cudaEventSynchronize(slot.sent);
    slot.in_use = true;
    return cudaEventCreateWithFlags(&slot.sent, cudaEventDisableTiming);
  });
  std::byte* staged = slot.memory.Get(stream_, bytes);
  if (staged == nullptr) return;
  std::memcpy(staged, from, bytes);
  stream_.Enqueue("send", [&](cudaStream_t stream) {
    const cudaError_t error = cudaMemcpyAsync(to, staged, bytes, cudaMemcpyHostToDevice, stream);
    return error != cudaSuccess ? error : cudaEventRecord(slot.sent, stream);
  });
}

const void* SentArray::SendBytes(CudaStaging& staging, const void* data, size_t bytes) {
  if (bytes == 0) return nullptr;
  const auto* begin = static_cast<const std::byte*>(data);
  const bool same = sent_.size() == bytes && std::equal(sent_.begin(), sent_.end(), begin);
  void* copy = copy_.Get(staging.stream(), bytes);
  if (copy == nullptr || same) return copy;
  sent_.assign(begin, begin + bytes);
  staging.Send(copy, data, bytes);
  return copy;
}

}  // namespace penstock::PENSTOCK_KERNELS
