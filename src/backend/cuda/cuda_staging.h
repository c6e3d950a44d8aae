// How small arrays of the host get to the device in order with kernels, without waiting: copied into
// pinned memory at once, sent from there. What has not changed since it was sent is not sent again.
// Owns pinned and device memory. Must not know what arrays mean.
// Threads: confined to one rank's thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstring>
#include <vector>

#include "absl/types/span.h"
#include "backend/cuda/cuda_stream.h"

namespace penstock::PENSTOCK_KERNELS {

/// Host memory that the device copies from and to by itself; grows, and forgets what it held.
class PinnedMemory {
 public:
  ~PinnedMemory();
  /// Null after a fault.
  std::byte* Get(CudaStream& stream, size_t bytes);

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

/// Device memory that grows, and forgets what it held; zeros at first.
class Scratch {
 public:
  /// Null after a fault; no room is one.
  void* Get(CudaStream& stream, size_t bytes);
  template <class T>
  T* Of(CudaStream& stream, int64_t count) {
    return static_cast<T*>(Get(stream, static_cast<size_t>(count) * sizeof(T)));
  }

 private:
  DeviceBuffer buffer_;
};

class CudaStaging {
 public:
  explicit CudaStaging(CudaStream* stream) : stream_(*stream) {}
  ~CudaStaging();
  CudaStream& stream() { return stream_; }
  void Send(void* to, const void* from, size_t bytes);

 private:
  struct Slot {
    PinnedMemory memory;
    cudaEvent_t sent = nullptr;
    bool in_use = false;
  };
  CudaStream& stream_;
  std::array<Slot, 16> slots_;
  size_t next_ = 0;
};

/// An array of the host and its copy on the device.
class SentArray {
 public:
  /// The copy; null after a fault, or of nothing.
  template <class T>
  const T* Send(CudaStaging& staging, absl::Span<const T> values) {
    return static_cast<const T*>(SendBytes(staging, values.data(), values.size() * sizeof(T)));
  }
  template <class T>
  const T* Send(CudaStaging& staging, const std::vector<T>& values) {
    return Send(staging, absl::MakeConstSpan(values));
  }

 private:
  const void* SendBytes(CudaStaging& staging, const void* data, size_t bytes);

  std::vector<std::byte> sent_;
  Scratch copy_;
};

/// Arrays of several kinds that go to the device as one.
class Upload {
 public:
  /// Where it begins; 16-byte aligned.
  template <class T>
  size_t Add(absl::Span<const T> values) {
    const size_t begin = (bytes_.size() + 15) / 16 * 16;
    bytes_.resize(begin + values.size() * sizeof(T));
    if (!values.empty())
      std::memcpy(bytes_.data() + begin, values.data(), values.size() * sizeof(T));
    return begin;
  }
  absl::Span<const std::byte> bytes() const { return bytes_; }
  void Clear() { bytes_.clear(); }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace penstock::PENSTOCK_KERNELS
