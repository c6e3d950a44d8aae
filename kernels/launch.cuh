// How a kernel is launched, on a GPU or under the emulator.
// Owns nothing. Must not know kernels.
// Threads: as CUDA streams.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "kernels/ptx.cuh"
#include "kernels/runtime.h"

namespace penstock::PENSTOCK_KERNELS {

struct KernelShape {
  const char* name = "";  // for messages
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;  // dynamic
  cudaStream_t stream = nullptr;
};

/// What every kernel's smallest instance fits: a block's on 8.6 and 8.9, less what kernels have besides.
constexpr size_t kLeastSharedBytes = (99 - 1) * 1024;

#if defined(PENSTOCK_EMULATE)

inline size_t SharedBytesOfBlock() { return emulator::Configured().shared_bytes; }

template <class... Parameters>
cudaError_t Launch(const KernelShape& shape, void (*kernel)(Parameters...),
                   std::type_identity_t<Parameters>... arguments) {
  struct Packed {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  } packed{kernel, {arguments...}};
  const emulator::LaunchShape launch{shape.name,
                                     {shape.grid.x, shape.grid.y, shape.grid.z},
                                     {shape.block.x, shape.block.y, shape.block.z},
                                     shape.shared_bytes,
                                     true};
  const bool ran = emulator::Run(
      launch,
      [](const void* parameters) {
        const auto& p = *static_cast<const Packed*>(parameters);
        std::apply(p.kernel, p.arguments);
      },
      &packed, sizeof packed);
  return ran ? cudaSuccess : cudaErrorLaunchFailure;
}

#else

/// The most shared memory that a block may ask for.
inline size_t SharedBytesOfBlock() {
  static const size_t bytes = [] {
    int device = 0;
    int most = 0;
    const bool known = cudaGetDevice(&device) == cudaSuccess &&
                       cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                              device) == cudaSuccess;
    return static_cast<size_t>(known ? most : 48 * 1024);
  }();
  return bytes;
}

/// Whether a kernel may begin before the one before it has ended (PdlWait is then where it waits).
/// PENSTOCK_PDL=off forbids it, for comparisons.
inline bool CanBeginEarly() {
  static const bool can = [] {
    const char* asked = std::getenv("PENSTOCK_PDL");
    if (asked != nullptr && std::string_view(asked) == "off") return false;
    int device = 0;
    int major = 0;
    return cudaGetDevice(&device) == cudaSuccess &&
           cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) ==
               cudaSuccess &&
           major >= 9;
  }();
  return can;
}

/// Every kernel executes PdlWait in all its threads.
template <class... Parameters>
cudaError_t Launch(const KernelShape& shape, void (*kernel)(Parameters...),
                   std::type_identity_t<Parameters>... arguments) {
  constexpr size_t kWithoutAsking = 48 * 1024;
  if (shape.shared_bytes > kWithoutAsking) {
    const cudaError_t error = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes));
    if (error != cudaSuccess) return error;
  }
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = shape.stream;
  config.attrs = &early;
  config.numAttrs = CanBeginEarly() ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

#endif

}  // namespace penstock::PENSTOCK_KERNELS
