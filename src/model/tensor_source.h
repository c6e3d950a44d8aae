// Where a model's tensors come from: safetensors files, or a formula that fills any shape for
// benchmarks. Owns the mappings or the generated values. Must not know what a tensor is for.
// Threads: confined to the loading thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "backend/quantized_rows.h"
#include "format/safetensors.h"
#include "model/quantization_config.h"
#include "penstock/types.h"

namespace penstock {

/// A tensor on the host, row-major, at any alignment.
struct HostTensor {
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;
  const void* data = nullptr;
  std::shared_ptr<const void> owner;  // keeps `data` alive
};

/// A linear layer's weight [rows, k] on the host: numbers, or codes.
struct HostLinear {
  HostTensor plain;                            // float32, float16 or bfloat16, unless `codes`
  std::shared_ptr<const QuantizedRows> codes;  // keeps its file mapped; null: `plain`
  bool integer_input = false;                  // wanted of the layer, where its codes allow it
};

/// One that a source holds, whether or not anything asked for it.
struct StoredTensor {
  std::string name;                  // in the file
  absl::Span<const std::byte> data;  // of any kind of number, at any alignment
  bool read = false;                 // something asked for it, if only whether it is there
};

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual bool Has(const std::string& name) const = 0;
  /// All, in order of their names; empty where there are no files.
  virtual std::vector<StoredTensor> Stored() const { return {}; }
  /// That are read; empty where there are none.
  virtual std::vector<std::string> Files() const { return {}; }
  /// DATA_LOSS where a file was written or cut since it was opened: nothing that was read counts.
  virtual absl::Status Intact() const { return absl::OkStatus(); }
  /// NOT_FOUND, or INVALID_ARGUMENT where the shape or the kind of number is not the expected one;
  /// names file and tensor.
  virtual absl::StatusOr<HostTensor> Get(const std::string& name,
                                         absl::Span<const int64_t> shape) = 0;
  /// The weight of the linear layer `name` (without ".weight"), in whatever form the source has it.
  /// `shape` is [rows, k], or [num_experts, rows, k] of experts stacked in one tensor: then `name`
  /// is the stack's, and `expert` in [0, num_experts) picks one. Errors as Get's, or
  /// UNIMPLEMENTED that names a form.
  virtual absl::StatusOr<HostLinear> FindLinear(const std::string& name,
                                                absl::Span<const int64_t> shape,
                                                int64_t expert = -1);
  /// Whether layers that a family stores as [in, out] lie so here; else they are as all others.
  virtual bool keeps_in_out_order() const { return true; }

 protected:
  /// Where the layer is plain: tensor `name`.weight; of a stack `name`, or else `name`.weight.
  absl::StatusOr<HostLinear> FindPlain(const std::string& name, absl::Span<const int64_t> shape,
                                       int64_t expert);
};

/// Tensors of dtype F32, F16 or BF16 of `dir`, and layers in the forms of its quantization_config.
absl::StatusOr<std::unique_ptr<TensorSource>> MakeFileSource(const std::string& dir,
                                                             QuantizationConfig quantization = {});

/// BF16 values that are a function of (tensor name, index): mix(fnv1a64(name) + i *
/// 0x9E3779B97F4A7C15) with splitmix64's finaliser, its upper 24 bits as u in [-1, 1), times sqrt(3
/// / last dimension); norm weights 1 + u / 8.
std::unique_ptr<TensorSource> MakeFormulaSource();

}  // namespace penstock
