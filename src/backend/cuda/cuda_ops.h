// The operations on a GPU: each call's arguments for the kernels, and their launches.
// Owns scratch and copies of what the host gives. Must not know models, or how kernels compute.
// Threads: confined to one rank's thread.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/cuda_batch.h"
#include "backend/cuda/cuda_products.h"
#include "backend/cuda/cuda_sampler.h"
#include "backend/cuda/cuda_staging.h"
#include "kernels/experts.h"
#include "kernels/gemm.h"

namespace penstock::PENSTOCK_KERNELS {

class CudaOps final : public Ops {
 public:
  CudaOps(CudaStream* stream, const CudaOptions& options);
  const CudaProducts& products() const { return products_; }

  void Embed(const penstock::EmbedArgs& args) override;
  void Norm(const penstock::NormArgs& args) override;
  void Linear(const LinearArgs& args) override;
  void RopeAndCache(const penstock::RopeArgs& args, const BatchRows& batch) override;
  void Attention(const penstock::AttentionArgs& args, const BatchRows& batch) override;
  void Encode(const EncodeArgs& args, const BatchRows& batch) override;
  void Activate(const ActivationArgs& args) override;
  void Route(const RouteArgs& args) override;
  void Experts(const ExpertsArgs& args) override;
  void SumExperts(const penstock::ExpertSumArgs& args) override;
  void DeltaRule(const DeltaArgs& args, const BatchRows& batch) override;
  void GatherRows(const Tensor& x, absl::Span<const int32_t> rows, const Tensor& y) override;
  void Sample(const Tensor& logits, absl::Span<const SampleRow> rows,
              absl::Span<SampledToken> tokens) override;
  void Score(const Tensor& logits, absl::Span<const TokenId> ids, int32_t num_top,
             absl::Span<SampledToken> tokens) override;

 private:
  /// Rows of 8-bit integers, as products of integers read them.
  struct ByteRows {
    int8_t* data = nullptr;
    int64_t stride = 0;
    float* scales = nullptr;
  };
  /// Experts [first, first + count) whose weights are of one shape and form.
  struct ExpertRun {
    int32_t first = 0;
    int32_t count = 0;
  };
  /// An expert's weight of a product, as pointers of all of a run.
  struct ExpertPointers {
    SentArray weights, scales, bias;
  };

  void NoKernel(const char* op);
  /// sees_all: rows see their whole sequence.
  void Attend(const penstock::AttentionArgs& args, const BatchRows& batch, bool sees_all);
  /// x, or a copy in 16 bits whose rows begin where copies of 16 bytes can.
  Tensor Aligned(const Tensor& x);
  /// Room for `rows` rows of `columns`.
  ByteRows RoomForBytes(int64_t rows, int64_t columns);
  ByteRows RoundToBytes(const Tensor& x);
  struct PlainTable {
    const void* data;
    int64_t stride;  // elements
    Element element;
  };
  void EmbedRows(const PlainTable& table, const int32_t* ids, const penstock::EmbedArgs& args);
  void EmbedPacked(const penstock::EmbedArgs& args, const int32_t* ids);
  ExpertList ListVisits(const ExpertsArgs& args, const ExpertRun& run, int32_t block_rows);
  /// The products of a run's experts, segment by segment; y is by visit. `down`: which of the two.
  void ExpertProducts(const ExpertsArgs& args, const ExpertRun& run, bool down, const Tensor& x,
                      const ByteRows* bytes, const ExpertList& list, int32_t block_rows,
                      const Tensor& y);

  CudaStream& stream_;
  CudaStaging staging_;
  CudaBatch batch_;
  CudaSampler sampler_;
  CudaProducts products_;
  DType numbers_;  // of inputs and of weights that are no codes
  int32_t ctas_;   // of attention and of experts
  SentArray ids_, gathered_;
  Scratch aligned_, bytes_, byte_scales_;
  std::vector<BlockId> encode_table_;
  Scratch encode_cache_;
  SentArray delta_sequences_, delta_rows_;
  Scratch convolved_;
  Scratch visits_, visit_blocks_, num_blocks_, wide_, out_;
  std::map<std::tuple<const void*, int32_t, bool, size_t>, ExpertPointers> expert_pointers_;
};

}  // namespace penstock::PENSTOCK_KERNELS
