// The forward pass of a decoder.
// Owns the activations; borrows weights, cache and device. Must not know sequences, sampling or
// plans.
// Threads: confined to one rank's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "backend/collective.h"
#include "model/adapter_weights.h"
#include "model/model_config.h"
#include "model/network.h"
#include "model/weights.h"
#include "penstock/backend.h"

namespace penstock {

/// How a decoder that is one rank's part of a model adds up with the others.
struct RankLink {
  Collective* collective = nullptr;  // outlives the decoder; null: the decoder is the whole model
  int32_t rank = 0;
};

class Decoder final : public Network {
 public:
  /// Room for `max_rows` positions per step and positions below `max_len`. `dtype` is that of the
  /// activations. `adapter_columns`: of MaxAdapterColumns; 0: no adapters. With a `link`, config and
  /// weights are a shard's, and there are no adapters.
  static absl::StatusOr<std::unique_ptr<Decoder>> Make(const ModelConfig* config,
                                                       const ModelWeights* weights, Device* device,
                                                       DType dtype, int32_t max_rows,
                                                       int32_t max_len, int64_t adapter_columns,
                                                       const RankLink& link = {});

  void Forward(const BatchRows& batch, absl::Span<const LayerCache> cache,
               absl::Span<const AdaptedRows> adapted) override;
  /// As Forward, from rows that are no embeddings: what `projection` makes of `x` [rows, its k].
  void ForwardFrom(const PackedLinear& projection, const Tensor& x, const BatchRows& batch,
                   absl::Span<const LayerCache> cache);
  /// Room for what recurrent layers read of so many rows; once, before the first of these:
  absl::Status MakeRoomForDelta(int32_t max_rows);
  /// The next passes keep it of `rows` of each.
  void KeepDelta(std::vector<int32_t> rows) { delta_rows_ = std::move(rows); }
  /// Advances states, each sequence's own, by `rows` of what is kept, which `sequences` cover.
  void RedoDelta(absl::Span<const int32_t> rows, absl::Span<const SequenceRows> sequences,
                 absl::Span<const LayerCache> cache);
  const Tensor& hidden() const override { return hidden_; }
  void FinalNorm(const Tensor& x, const Tensor& y) override;
  /// Of a shard: [m, its tokens].
  void Logits(const Tensor& x, absl::Span<const int32_t> rows, const Tensor& logits) override;

 private:
  Decoder() = default;
  absl::Status AllocateActivations(int32_t max_rows, int64_t adapter_columns);
  absl::Status MakeTables(int32_t max_len);
  Tensor Activations(const DeviceBuffer& buffer, int64_t rows, int64_t cols) const;
  void ApplyNorm(const NormWeights& w, const Tensor& x, const Tensor& y);
  /// residual += residual_scale * (linear x), normalised first where `after` has a weight.
  void AddToResidual(const PackedLinear& linear, AdaptedLinear AdaptedLayer::*adapted, size_t index,
                     const Tensor& x, const NormWeights& after, float scalar = 1.0f);
  /// y += scale * what an adapter adds to linear x.
  void AddProducts(const AdaptedLinear& linear, const Tensor& x, const Tensor& y, float scale);
  /// y += scale * what the batch's adapters add to that layer's linear x.
  void AddAdapted(AdaptedLinear AdaptedLayer::*linear, size_t index, const Tensor& x,
                  const Tensor& y, float scale = 1.0f);
  /// As AddAdapted, of embeddings and, of head `h`, of latent attention's up-projections.
  void AddAdaptedEmbedding(const BatchRows& batch);
  void AddAdaptedKeys(size_t index, int32_t h, const Tensor& nope, const Tensor& q);
  void AddAdaptedValues(size_t index, int32_t h, const Tensor& latents, const Tensor& values);
  /// logits of some of Logits' x, with what the adapter adds to the head.
  void AdaptLogits(const AdaptedLinear& head, const Tensor& x, const Tensor& logits);
  absl::Status AllocateAdapters(int32_t max_rows, int64_t adapter_columns);

  /// A shard's: what ranks have a part of, as float32 [rows, hidden].
  Tensor Partial(int64_t rows) const;
  /// Embeds the tokens that are this rank's; the others' come with the sum.
  void EmbedOwn(const BatchRows& batch);
  /// residual += scalar * the norm of normed_.
  void AddNormed(const NormWeights& after, float scalar);
  /// residual += scale * (the sum of the ranks' Partial), normalised first as in AddToResidual.
  void AddSum(int64_t rows, float scale, const NormWeights& after, float scalar);

  void StartRows(int64_t rows, absl::Span<const AdaptedRows> adapted);
  void ForwardLayers(const BatchRows& batch, absl::Span<const LayerCache> cache);
  void ForwardLayer(size_t index, const BatchRows& batch, const LayerCache& cache);
  /// input_ -> what the output projection reads.
  Tensor Attention(size_t index, const BatchRows& batch, const LayerCache& cache);
  Tensor LatentAttention(size_t index, const BatchRows& batch, const LayerCache& cache);
  Tensor DeltaRule(size_t index, const BatchRows& batch, const LayerCache& cache);
  /// Of what a recurrent layer reads and what it yields, as rows of these buffers.
  struct DeltaRows {
    Tensor qkv, ba, out;
  };
  DeltaRows DeltaRowsIn(size_t index, int64_t rows, const DeviceBuffer& qkv,
                        const DeviceBuffer& ba) const;
  void Recur(size_t index, const DeltaRows& rows, const BatchRows& batch, const LayerCache& cache);
  /// input_ -> added to the residual.
  void Mlp(size_t index, int64_t rows);
  void Mixture(size_t index, const MixtureWeights& w, int64_t rows);
  /// y += what the chosen experts yield for input_: `route` says which, by how much.
  void Experts(size_t index, const MixtureWeights& w, const RouteArgs& route, const Tensor& y);
  /// Likewise for rows with an adapter that changes experts, as many as there is room for.
  void AdaptedExperts(const std::vector<AdaptedExpert>& adapted, const ExpertsArgs& args);
  RopeArgs Rope(size_t index, const Tensor& qkv, const KvLayer& cache) const;
  ActivationArgs Activation() const;

  const ModelConfig* config_ = nullptr;
  const ModelWeights* weights_ = nullptr;
  Device* device_ = nullptr;
  DType dtype_ = DType::kFloat32;
  RankLink link_;
  std::vector<DeviceBuffer> cos_sin_;    // per rope: float32 [max_len, 2, rotary_dim / 2]
  DeviceBuffer q_scale_;                 // float32 [max_len]; empty: none
  DeviceBuffer hidden_buffer_;           // [max_rows, hidden]
  DeviceBuffer normed_buffer_;           // [max_rows, hidden]
  DeviceBuffer wide_buffer_;             // q, k and v; gate and up: [max_rows, the widest of them]
  DeviceBuffer narrow_buffer_;           // what attention and the gate yield
  DeviceBuffer side_buffer_;             // latent attention and the delta rule
  DeviceBuffer scores_buffer_;           // float32: router logits, or b and a of the delta rule
  std::vector<DeviceBuffer> delta_qkv_;  // per layer, of a recurrent one: what is kept
  std::vector<DeviceBuffer> delta_ba_;
  std::vector<int32_t> delta_rows_;  // of the batch, to be kept
  DeviceBuffer adapter_buffer_;      // float32 [max_rows, adapter_columns]
  AdaptedExpertRoom expert_room_;
  DeviceBuffer expert_in_;                 // [room.rows, room.in]
  DeviceBuffer expert_wide_;               // [room.rows, room.wide]
  DeviceBuffer expert_out_;                // float32 [2, room.rows, room.out]
  DeviceBuffer partial_buffer_;            // float32 [max_rows, hidden]; of a shard
  std::vector<int32_t> own_ids_;           // of a shard: [rows] within its part of the table
  std::vector<int32_t> row_numbers_;       // of a shard: 0, 1, ... max_rows - 1
  DeviceBuffer route_ids_;                 // int32 [max_rows, slots]
  DeviceBuffer route_weights_;             // float32 [max_rows, slots]
  absl::Span<const AdaptedRows> adapted_;  // of the batch
  Tensor hidden_;
  Tensor normed_;
  Tensor input_;  // of the part at hand: normed_, or hidden_ where a family normalises after it
};

}  // namespace penstock
