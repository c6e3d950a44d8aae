// Products of linear layers: few rows by our own kernel, many by the way that the table of shapes
// names, which is measured where nothing forbids it.
// Owns scratch, the table and NVIDIA's library where there is one. Must not know layers or models.
// Threads: confined to one rank's thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/cuda/cublaslt.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/cuda_staging.h"
#include "backend/cuda/linear_table.h"
#include "kernels/gemm.h"

namespace penstock::PENSTOCK_KERNELS {

class CudaProducts {
 public:
  CudaProducts(CudaStream* stream, const CudaOptions& options);
  ~CudaProducts();

  /// args.work is set here.
  void Multiply(const GemmArgs& args);
  /// What an operator should know; empty: nothing.
  const std::string& note() const { return note_; }
  const std::string& library() const { return library_version_; }  // empty: none

 private:
  LinearChoice Choose(const GemmArgs& args);
  std::vector<LinearChoice> Candidates(const GemmArgs& args);
  bool CanGo(const GemmArgs& args, LinearPath path) const;
  /// Microseconds, of the best of a few runs; y is not touched.
  double Time(const GemmArgs& args, const LinearChoice& choice);
  void Run(const GemmArgs& args, const LinearChoice& choice);
  void RunBlocks(GemmArgs args);
  /// False where the library refuses, which is no fault.
  bool RunLibrary(const GemmArgs& args, const LibraryAlgorithm& algorithm);
  void RunExpanded(const GemmArgs& args, const LinearChoice& choice);

  CudaStream& stream_;
  Determinism determinism_;
  int32_t at_once_;  // CTAs of a product
  std::unique_ptr<CublasLt> library_;
  std::string library_version_;
  LinearTable table_;
  std::string note_;
  Scratch partials_, arrived_, expanded_, workspace_, tried_;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

}  // namespace penstock::PENSTOCK_KERNELS
