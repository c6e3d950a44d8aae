// Reads tensors from a source and puts them on a device: vectors, tables, packed linear layers.
// Owns nothing. Must not know what a layer is.
// Threads: confined to the loading thread.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/tensor_source.h"
#include "model/weights.h"
#include "penstock/backend.h"

namespace penstock {

/// Some rows of a linear layer, taken from one tensor.
struct RowsOf {
  std::string name;                 // of the tensor, without ".weight" and ".bias"
  int64_t rows = 0;                 // taken
  std::vector<int32_t> order = {};  // which rows of the tensor; empty: the first so many
  int64_t tensor_rows = 0;          // the tensor has; 0: as many as are taken
  bool transposed = false;          // the tensor is [k, tensor_rows]
};

/// Rows [head * stride + offset, + dim) of each head in turn. The `rotary_dim` rows from
/// `rotary_begin` on of each, which turn in pairs (2i, 2i + 1), are put where (i, i + rotary_dim /
/// 2) turn; rotary_dim 0: as they are. Scores do not change, since q and k are ordered alike.
std::vector<int32_t> RowsOfHeads(int64_t num_heads, int64_t dim, int64_t stride, int64_t offset,
                                 int64_t rotary_dim = 0, int64_t rotary_begin = 0);

class WeightLoader {
 public:
  WeightLoader(TensorSource& source, Device& device) : source_(source), device_(device) {}

  TensorSource& source() { return source_; }
  Device& device() { return device_; }

  /// float32 values of a tensor of any of the types of a weight.
  absl::StatusOr<std::vector<float>> Floats(const std::string& name,
                                            absl::Span<const int64_t> shape);
  absl::StatusOr<DeviceBuffer> ToDevice(absl::Span<const float> values);
  absl::StatusOr<DeviceBuffer> Vector(const std::string& name, int64_t size);
  /// `name`.weight and, for a LayerNorm with one, `name`.bias.
  absl::StatusOr<NormWeights> Norm(const std::string& name, NormType type, int64_t size);
  /// The parts' rows in order, as one layer, each in its own format.
  absl::StatusOr<PackedLinear> Linear(absl::Span<const RowsOf> parts, int64_t k, bool bias);
  absl::StatusOr<PackedLinear> Linear(RowsOf part, int64_t k, bool bias) {
    return Linear(absl::MakeConstSpan(&part, 1), k, bias);
  }
  /// A layer from a weight at hand, [rows, k]; `order`: which of its rows, empty: all; `bias`
  /// [rows of the weight], empty: none.
  absl::StatusOr<PackedLinear> LinearOf(const HostLinear& weight, int64_t k,
                                        absl::Span<const int32_t> order,
                                        absl::Span<const float> bias);
  /// The weight [rows, k] of a linear layer as numbers, even where the source has codes.
  absl::StatusOr<HostTensor> Numbers(const std::string& name, int64_t rows, int64_t k);
  /// A table to look rows up in, where the device can read it.
  absl::StatusOr<Tensor> Table(const std::string& name, int64_t rows, int64_t cols,
                               ModelWeights& out);
  /// The table of the layer `name` as out.embedding; where it is of codes, as out.packed_embedding,
  /// or not at all where the head, which is loaded from it, serves both.
  absl::Status Embedding(const std::string& name, const ModelConfig& config, ModelWeights& out);

 private:
  absl::StatusOr<Tensor> View(const HostTensor& table, ModelWeights& out);

  TensorSource& source_;
  Device& device_;
};

}  // namespace penstock
