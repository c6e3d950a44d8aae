// Device memory of a test, real or emulated, and what comes before and after such a test.
// Owns the memory. Must not know kernels.
// Threads: confined to one thread.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/runtime.h"

namespace penstock::PENSTOCK_KERNELS {

/// A test's first line: skips it where there is no device. `seed`: of the emulator's order of things.
inline void StartOnDevice([[maybe_unused]] uint64_t seed) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    if (std::getenv("PENSTOCK_REQUIRE_GPU") != nullptr)
      FAIL() << "PENSTOCK_REQUIRE_GPU is set, and there is no GPU";
    GTEST_SKIP() << "no GPU";
  }
#if defined(PENSTOCK_EMULATE)
  emulator::Configure({.seed = seed});
#endif
}
/// What the device has against a test's kernels; empty: nothing.
inline std::string DeviceFault() {
#if defined(PENSTOCK_EMULATE)
  return emulator::TakeFault();
#else
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
#endif
}

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& host) : DeviceArray(host.size()) {
    EXPECT_EQ(cudaMemcpy(data_, host.data(), size_ * sizeof(T), cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  /// Nothing was written to it.
  explicit DeviceArray(size_t size) : size_(size) {
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&data_), size_ * sizeof(T)), cudaSuccess);
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  T* data() { return data_; }
  std::vector<T> Read() {
    std::vector<T> host(size_);
    EXPECT_EQ(cudaMemcpy(host.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return host;
  }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace penstock::PENSTOCK_KERNELS
