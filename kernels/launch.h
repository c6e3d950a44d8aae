// Entry points of the kernels: each enqueues on a stream and returns what the launch said.
// Owns nothing. Must not know the classes of the server.
// Threads: as CUDA streams.
#pragma once

#include "kernels/attention_work.h"
#include "kernels/dequant.h"
#include "kernels/experts.h"
#include "kernels/gemm.h"
#include "kernels/rows.h"
#include "kernels/runtime.h"
#include "kernels/sample.h"

namespace penstock::PENSTOCK_KERNELS {

cudaError_t LaunchEmbed(const EmbedArgs& args, cudaStream_t stream);
cudaError_t LaunchNorm(const NormArgs& args, cudaStream_t stream);
cudaError_t LaunchGated(const GatedArgs& args, cudaStream_t stream);
cudaError_t LaunchRope(const RopeArgs& args, cudaStream_t stream);
/// m <= kGemmRows is one kernel, more rows are a kernel per kGemmBlocksAtOnce blocks of them.
cudaError_t LaunchGemm(const GemmArgs& args, cudaStream_t stream);
// LaunchGemm's, by format:
cudaError_t LaunchGemmInt8(const GemmArgs& args, cudaStream_t stream);
cudaError_t LaunchGemmInt4(const GemmArgs& args, cudaStream_t stream);
cudaError_t LaunchGemmCodes8(const GemmArgs& args, cudaStream_t stream);
cudaError_t LaunchDequant(const DequantArgs& args, cudaStream_t stream);
cudaError_t LaunchEmbedCodes(const EmbedCodesArgs& args, cudaStream_t stream);
cudaError_t LaunchRoute(const RouterArgs& args, cudaStream_t stream);
cudaError_t LaunchExpertList(const ExpertListArgs& args, cudaStream_t stream);
cudaError_t LaunchExpertGemm(const ExpertGemmArgs& args, cudaStream_t stream);
cudaError_t LaunchExpertGemmCodes(const ExpertGemmArgs& args, cudaStream_t stream);  // its part
cudaError_t LaunchExpertSum(const ExpertSumArgs& args, cudaStream_t stream);
/// LaunchAttention, whose items are the whole work, then LaunchAttentionMerge where items were split.
cudaError_t LaunchAttention(const AttentionArgs& args, cudaStream_t stream);
cudaError_t LaunchAttentionMerge(const AttentionArgs& args, cudaStream_t stream);
/// Draws from rows without top-k, top-p and min-p.
cudaError_t LaunchScan(const ScanArgs& args, cudaStream_t stream);
/// Draws from rows with top-k, top-p or min-p.
cudaError_t LaunchFilter(const FilterArgs& args, cudaStream_t stream);
cudaError_t LaunchScore(const ScoreArgs& args, cudaStream_t stream);

}  // namespace penstock::PENSTOCK_KERNELS
