#include "kernels/emulator/runtime_shim.h"

#include <cstring>

namespace penstock::PENSTOCK_KERNELS {
namespace {

cudaError_t State() { return emulator::IsFaulted() ? cudaErrorLaunchFailure : cudaSuccess; }

}  // namespace

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, size_t bytes) {
  *data = emulator::Allocate(bytes);
  return *data == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaFree(void* data) {
  emulator::SettleLaunches();
  return data == nullptr || emulator::Free(data) ? State() : cudaErrorInvalidValue;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  emulator::SettleLaunches();
  if (emulator::IsFaulted()) return State();
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (to_device && !emulator::IsAllocated(to, bytes)) return State();
  if (from_device && !emulator::IsAllocated(from, bytes)) return State();
  if (bytes > 0) std::memcpy(to, from, bytes);
  if (to_device) emulator::MarkWritten(to, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}

cudaError_t cudaMemset(void* data, int value, size_t bytes) {
  emulator::SettleLaunches();
  if (emulator::IsFaulted() || !emulator::IsAllocated(data, bytes)) return State();
  if (bytes > 0) std::memset(data, value, bytes);
  emulator::MarkWritten(data, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t) {
  return cudaMemset(data, value, bytes);
}

cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaDeviceSynchronize(); }

cudaError_t cudaDeviceSynchronize() {
  emulator::SettleLaunches();
  return State();
}

cudaError_t cudaGetLastError() { return State(); }

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorLaunchFailure:
      return "the emulator found a fault";
  }
  return "unknown error";
}

}  // namespace penstock::PENSTOCK_KERNELS
