// The forward pass of a bidirectional encoder: norms after attention and after the dense layer.
// Owns the activations; borrows weights and device. Must not know sequences, pooling or plans.
// Threads: confined to one rank's thread.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "model/model_config.h"
#include "model/network.h"
#include "model/weights.h"

namespace penstock {

class Encoder final : public Network {
 public:
  /// Room for `max_rows` positions per step. `dtype` is that of the activations.
  static absl::StatusOr<std::unique_ptr<Encoder>> Make(const ModelConfig* config,
                                                       const ModelWeights* weights, Device* device,
                                                       DType dtype, int32_t max_rows);

  /// Every sequence of the batch is whole; there is no cache and no adapter. Segments:
  /// batch.segments.
  void Forward(const BatchRows& batch, absl::Span<const LayerCache> cache,
               absl::Span<const AdaptedRows> adapted) override;
  const Tensor& hidden() const override { return hidden_; }
  /// There is none: y = x.
  void FinalNorm(const Tensor& x, const Tensor& y) override;
  /// The classifier; x are rows of first positions.
  void Logits(const Tensor& x, absl::Span<const int32_t> rows, const Tensor& logits) override;

 private:
  Encoder() = default;
  void ApplyNorm(const NormWeights& w, const Tensor& x);
  void ForwardLayer(const EncoderLayerWeights& w, const HeadShape& heads, const BatchRows& batch);

  const ModelConfig* config_ = nullptr;
  const ModelWeights* weights_ = nullptr;
  Device* device_ = nullptr;
  DType dtype_ = DType::kFloat32;
  DeviceBuffer hidden_buffer_;  // [max_rows, hidden]
  DeviceBuffer wide_buffer_;    // [max_rows, max(3 hidden, intermediate)]
  DeviceBuffer narrow_buffer_;  // [max_rows, hidden]
  Tensor hidden_;
};

}  // namespace penstock
