#include "backend/cuda/cuda_stream.h"

#include <atomic>
#include <cstring>
#include <map>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr int kLeastMajor = 8;  // compute capability

std::atomic<int64_t> held_bytes{0};

void FreeDeviceMemory(void* data, size_t bytes) {
  held_bytes -= static_cast<int64_t>(bytes);
  cudaFree(data);
}

/// What went wrong, in words; the runtime forgets it.
std::string TextOf(cudaError_t error) {
#if defined(PENSTOCK_EMULATE)
  std::string fault = emulator::TakeFault();
  if (!fault.empty()) return fault;
#else
  cudaGetLastError();
#endif
  return cudaGetErrorString(error);
}

/// Why no device can be used.
std::string WhyNone(cudaError_t error) {
  int version = 0;
  if (cudaDriverGetVersion(&version) != cudaSuccess || version == 0)
    return "this machine has no NVIDIA driver";
  if (error == cudaErrorInsufficientDriver) {
    return absl::StrCat("the NVIDIA driver is for CUDA ", version / 1000, ".", version % 1000 / 10,
                        ", which is too old for this build: update it");
  }
  if (error == cudaSuccess || error == cudaErrorNoDevice) return "this machine has no NVIDIA GPU";
  return TextOf(error);
}

/// How many streams are open on each GPU.
struct OpenStreams {
  std::mutex mutex;
  std::map<std::string, int> by_address;  // guarded by it
};

OpenStreams& Opened() {
  static auto* const opened = new OpenStreams;  // outlives what is closed as the process ends
  return *opened;
}

void CountStream(const std::string& address, int change) {
  if (address.empty()) return;
  const std::lock_guard lock(Opened().mutex);
  Opened().by_address[address] += change;
}

}  // namespace

int64_t HeldDeviceBytes() { return held_bytes; }

bool HasDriver() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess && version > 0;
}

std::vector<std::string> GpusInUse() {
  const std::lock_guard lock(Opened().mutex);
  std::vector<std::string> out;
  for (const auto& [address, streams] : Opened().by_address) {
    if (streams > 0) out.push_back(address);
  }
  return out;
}

absl::StatusOr<std::unique_ptr<CudaStream>> CudaStream::Open(const std::string& name, int device) {
  const auto unavailable = [&](const auto&... why) {
    return absl::UnavailableError(absl::StrCat("device ", name, ": ", why..., "; use device: cpu"));
  };
  int count = 0;
  const cudaError_t counted = cudaGetDeviceCount(&count);
  if (counted != cudaSuccess || count == 0) return unavailable(WhyNone(counted));
  if (device >= count) return unavailable("this machine has ", count, " of them, from 0 on");
  std::unique_ptr<CudaStream> s(new CudaStream());
  s->name_ = name;
  s->device_ = device;
  s->Enqueue("open",
             [&](cudaStream_t) { return cudaGetDeviceProperties(&s->properties_, device); });
  if (s->ok() && s->properties_.major < kLeastMajor) {
    return unavailable("a GPU named ", s->properties_.name, " has compute capability ",
                       s->properties_.major, ".", s->properties_.minor, ", the kernels need ",
                       kLeastMajor, ".0");
  }
  s->Enqueue("open", [&](cudaStream_t) {
    return cudaStreamCreateWithFlags(&s->stream_, cudaStreamNonBlocking);
  });
  if (!s->ok()) {
    return absl::UnavailableError(
        absl::StrCat(s->fault_.message(),
                     " (nvidia-smi says how it is and what other processes have of its memory); "
                     "use another, or device: cpu"));
  }
  char address[32] = "";
  if (cudaDeviceGetPCIBusId(address, sizeof address, device) == cudaSuccess) s->address_ = address;
  CountStream(s->address_, 1);
  return s;
}

CudaStream::~CudaStream() {
  CountStream(address_, -1);
  Enqueue("close", [](cudaStream_t stream) { return cudaStreamSynchronize(stream); });
  fence_ = DeviceBuffer();
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

bool CudaStream::MakeCurrent() {
  thread_local int current = -1;
  if (!fault_.ok()) return false;
  if (current != device_) {
    Note("choose", cudaSetDevice(device_));
    current = fault_.ok() ? device_ : -1;
  }
  return fault_.ok();
}

void CudaStream::Note(const char* what, cudaError_t error) {
  if (error != cudaSuccess)
    Fail(absl::InternalError(absl::StrCat("device ", name_, ": ", what, ": ", TextOf(error))));
}

void CudaStream::Fail(absl::Status fault) {
  if (fault_.ok()) fault_ = std::move(fault);
}

absl::StatusOr<DeviceBuffer> CudaStream::Allocate(size_t bytes) {
  if (bytes == 0) return DeviceBuffer();
  if (!MakeCurrent()) return fault_;
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, bytes);
  if (error != cudaSuccess) {
    size_t free = 0;
    size_t total = 0;
    cudaMemGetInfo(&free, &total);
    return absl::ResourceExhaustedError(absl::StrCat(
        "device ", name_, ": no room for ", bytes, " bytes (", TextOf(error), "; ", free, " of ",
        total, " bytes are free, this process holds ", HeldDeviceBytes(),
        "): lower engine.kv_memory or engine.memory_fraction, see penstock plan; other processes "
        "may have the rest (nvidia-smi)"));
  }
  held_bytes += static_cast<int64_t>(bytes);
  DeviceBuffer buffer(data, bytes, FreeDeviceMemory);
  Enqueue("clear", [&](cudaStream_t stream) { return cudaMemsetAsync(data, 0, bytes, stream); });
  if (!fault_.ok()) return fault_;
  return buffer;
}

absl::StatusOr<DeviceBuffer> CudaStream::AllocateHost(size_t bytes) {
  if (bytes == 0) return DeviceBuffer();
  if (!MakeCurrent()) return fault_;
  void* data = nullptr;
  const cudaError_t error = cudaMallocHost(&data, bytes);
  if (error != cudaSuccess) {
    return absl::ResourceExhaustedError(absl::StrCat("device ", name_, ": no room for ", bytes,
                                                     " bytes of the host's memory (", TextOf(error),
                                                     "): lower engine.kv_offload"));
  }
  std::memset(data, 0, bytes);
  return DeviceBuffer(data, bytes, [](void* pinned, size_t) { cudaFreeHost(pinned); });
}

void CudaStream::Fence() {
#if defined(PENSTOCK_EMULATE)
  Enqueue("fence", [](cudaStream_t stream) { return cudaStreamSynchronize(stream); });
#else
  if (fence_.data() == nullptr) {
    absl::StatusOr<DeviceBuffer> word = Allocate(sizeof(int32_t));
    if (!word.ok()) return Fail(word.status());
    fence_ = *std::move(word);
  }
  // Only a kernel right after a kernel may begin before that has ended.
  Enqueue("fence", [&](cudaStream_t stream) {
    return cudaMemsetAsync(fence_.data(), 0, sizeof(int32_t), stream);
  });
#endif
}

DeviceMemory CudaStream::Memory() {
  size_t free = 0;
  size_t total = 0;
  Enqueue("memory", [&](cudaStream_t) { return cudaMemGetInfo(&free, &total); });
  return {static_cast<int64_t>(free), static_cast<int64_t>(total)};
}

absl::Status CudaStream::Synchronize() {
  Enqueue("run", [](cudaStream_t stream) { return cudaStreamSynchronize(stream); });
  return fault_;
}

}  // namespace penstock::PENSTOCK_KERNELS
