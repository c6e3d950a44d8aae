#include "kernels/emulator/runtime_shim.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr int kToolkit = 13000;  // the version of CUDA that the kernels are built with

cudaError_t State() { return emulator::IsFaulted() ? cudaErrorLaunchFailure : cudaSuccess; }

}  // namespace

cudaError_t cudaGetDeviceCount(int* count) {
  const emulator::Options& said = emulator::Configured();
  *count = said.gpus;
  if (said.driver < kToolkit) return cudaErrorInsufficientDriver;
  return said.gpus > 0 ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaSetDevice(int device) { return device == 0 ? State() : cudaErrorInvalidValue; }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return cudaErrorInvalidValue;
  const emulator::Options& said = emulator::Configured();
  *properties = {"emulator", said.major, said.minor, 2};  // more would only take more time
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* address, int bytes, int device) {
  if (device != 0) return cudaErrorInvalidValue;
  std::snprintf(address, bytes, "ffff:00:00.0");  // of no machine
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = emulator::Configured().driver;
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = emulator::FreeMemory();
  *total = emulator::Configured().memory;
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** data, size_t bytes) {
  *data = std::malloc(bytes);
  return *data == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaFreeHost(void* data) {
  std::free(data);
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

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = nullptr;
  const bool full = emulator::Configured().memory > 0 && emulator::FreeMemory() == 0;
  return full ? cudaErrorMemoryAllocation : cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaDeviceSynchronize(); }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  emulator::SettleLaunches();  // the event says that they have ended
  return State();
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 0;  // there is no other
  return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return cudaErrorInvalidValue; }

struct Event {
  std::chrono::steady_clock::time_point at;
};
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new Event();
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  event->at = std::chrono::steady_clock::now();
  return State();
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return State(); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(end->at - begin->at).count();
  return State();
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

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
    case cudaErrorInsufficientDriver:
      return "driver too old";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorPeerAccessAlreadyEnabled:
      return "peer access is enabled already";
    case cudaErrorLaunchFailure:
      return "the emulator found a fault";
  }
  return "unknown error";
}

}  // namespace penstock::PENSTOCK_KERNELS
