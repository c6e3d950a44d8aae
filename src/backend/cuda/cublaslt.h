// NVIDIA's library of matrix products, found when the device is opened: never linked, may be absent.
// Owns the library's handle. Must not know layers, or which product is worth it.
// Threads: confined to one rank's thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/gemm.h"
#include "kernels/runtime.h"

namespace penstock::PENSTOCK_KERNELS {

using LibraryAlgorithm = std::array<uint64_t, 8>;

class CublasLt {
 public:
  /// Where it is looked for: the folder that PENSTOCK_CUDA_LIBDIR names, the loader's own, the toolkit's.
  static std::vector<std::string> Places();
  /// The first that is there. NOT_FOUND where none is, or where it cannot be used; the message says
  /// where it was looked for, or what it lacks.
  static absl::StatusOr<std::unique_ptr<CublasLt>> Load(const std::vector<std::string>& places);
  virtual ~CublasLt() = default;

  virtual const std::string& version() const = 0;
  /// Whether it can do what `args` ask: numbers of 16 bits, and neither bias, nor scale, nor cap.
  static bool CanDo(const GemmArgs& args);
  /// What its rules of thumb hold for best, the first first; none where it cannot.
  virtual std::vector<LibraryAlgorithm> Candidates(const GemmArgs& args, size_t workspace_bytes,
                                                   int most) = 0;
  /// `workspace`: of workspace_bytes, as its algorithm was chosen with. cudaErrorInvalidValue: nothing
  /// was enqueued, since it does not take such a product.
  virtual cudaError_t Multiply(const GemmArgs& args, const LibraryAlgorithm& algorithm,
                               void* workspace, size_t workspace_bytes, cudaStream_t stream) = 0;
};

/// What an operator is told where Load said `why`.
std::string WithoutCublasLt(const absl::Status& why);

}  // namespace penstock::PENSTOCK_KERNELS
