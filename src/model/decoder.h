// The forward pass of a dense decoder.
// Owns the activations; borrows weights, cache and device. Must not know sequences, sampling or
// plans.
// Threads: confined to one rank's thread.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/model_config.h"
#include "model/weights.h"
#include "penstock/backend.h"

namespace penstock {

class Decoder {
 public:
  /// Room for `max_rows` positions per step and positions below `max_len`. `dtype` is that of the
  /// activations.
  static absl::StatusOr<Decoder> Make(const ModelConfig* config, const ModelWeights* weights,
                                      Device* device, DType dtype, int32_t max_rows,
                                      int32_t max_len);

  /// Computes the batch's positions; cache[i] is layer i's. hidden() then has a row per row of the
  /// batch.
  void Forward(const BatchRows& batch, absl::Span<const KvLayer> cache);
  /// [num_rows, hidden] of the last Forward, before the final norm.
  const Tensor& hidden() const { return hidden_; }
  /// y = norm(x); x and y [m, hidden].
  void FinalNorm(const Tensor& x, const Tensor& y);
  /// logits = lm_head x; x [m, hidden] after FinalNorm, logits float32 [m, vocab].
  void Logits(const Tensor& x, const Tensor& logits);

 private:
  Decoder() = default;
  Tensor Activations(const DeviceBuffer& buffer, int64_t rows, int64_t cols) const;

  const ModelConfig* config_ = nullptr;
  const ModelWeights* weights_ = nullptr;
  Device* device_ = nullptr;
  DType dtype_ = DType::kFloat32;
  DeviceBuffer cos_sin_;        // float32 [max_len, 2, head_dim / 2]
  DeviceBuffer hidden_buffer_;  // [max_rows, hidden]
  DeviceBuffer normed_buffer_;  // [max_rows, hidden]
  DeviceBuffer wide_buffer_;    // [max_rows, max(qkv, 2 intermediate)]
  DeviceBuffer narrow_buffer_;  // [max_rows, max(num_heads head_dim, intermediate)]
  Tensor hidden_;
};

}  // namespace penstock
