// NVIDIA's management library, found when it is asked for: never linked, may be absent. It tells how
// GPUs are, whichever process uses them.
// Owns the library's handle. Must not know CUDA, or what computes.
// Threads: confined to one thread at a time. A call may take as long as the driver likes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "metrics/gpu_figures.h"

namespace penstock {

inline constexpr char kNvmlLibrary[] = "libnvidia-ml.so.1";  // as the loader finds it

class NvmlReader {
 public:
  /// A GPU, of which only who it is counts, had this fault so often since the last reading.
  using OnXid = std::function<void(const GpuFigures& gpu, int64_t xid, int64_t times)>;

  /// Of the GPUs at these PCI addresses (0000:3b:00.0). NOT_FOUND: there is no library; UNAVAILABLE:
  /// it does not work here, or knows none of the GPUs; the message has its words. on_xid, where there
  /// is one, is called while Read runs.
  static absl::StatusOr<std::unique_ptr<NvmlReader>> Open(
      const std::vector<std::string>& pci_addresses, const std::string& library = kNvmlLibrary,
      OnXid on_xid = nullptr);
  virtual ~NvmlReader() = default;

  /// What each GPU tells now. What it does not support or may not tell is left out; one that is lost
  /// is not up and tells nothing.
  virtual std::vector<GpuFigures> Read() = 0;
  /// The GPUs that the library does not know, and why; empty: it knows all.
  virtual const std::string& note() const = 0;
};

}  // namespace penstock
