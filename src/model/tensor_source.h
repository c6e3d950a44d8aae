// Where a model's tensors come from: safetensors files, or a formula that fills any shape for
// benchmarks. Owns the mappings or the generated values. Must not know what a tensor is for.
// Threads: confined to the loading thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "format/safetensors.h"
#include "penstock/types.h"

namespace penstock {

/// A tensor on the host, row-major, at any alignment.
struct HostTensor {
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;
  const void* data = nullptr;
  std::shared_ptr<const void> owner;  // keeps `data` alive
};

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual bool Has(const std::string& name) const = 0;
  /// NOT_FOUND, or INVALID_ARGUMENT where the shape or the kind of number is not the expected one;
  /// names file and tensor.
  virtual absl::StatusOr<HostTensor> Get(const std::string& name,
                                         absl::Span<const int64_t> shape) = 0;
};

/// Tensors of dtype F32, F16 or BF16 of `dir`.
absl::StatusOr<std::unique_ptr<TensorSource>> MakeFileSource(const std::string& dir);

/// BF16 values that are a function of (tensor name, index): mix(fnv1a64(name) + i *
/// 0x9E3779B97F4A7C15) with splitmix64's finaliser, its upper 24 bits as u in [-1, 1), times sqrt(3
/// / last dimension); norm weights 1 + u / 8.
std::unique_ptr<TensorSource> MakeFormulaSource();

}  // namespace penstock
