// Reads tensors from a source and puts them on a device: vectors, tables, packed linear layers.
// Owns nothing. Must not know what a layer is.
// Threads: confined to the loading thread.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/layer_linears.h"
#include "model/tensor_source.h"
#include "model/weights.h"
#include "penstock/backend.h"

namespace penstock {

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
  absl::Status Embedding(const std::string& name, const ModelConfig& config,
                         const ModelShard& shard, ModelWeights& out);

 private:
  absl::StatusOr<Tensor> View(const HostTensor& table, ModelWeights& out);

  TensorSource& source_;
  Device& device_;
};

}  // namespace penstock
