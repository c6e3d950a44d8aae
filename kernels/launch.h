// Entry points of the kernels: each enqueues on a stream and returns what the launch said.
// Owns nothing. Must not know the classes of the server.
// Threads: as CUDA streams.
#pragma once

#include "kernels/attention_work.h"
#include "kernels/rows.h"
#include "kernels/runtime.h"
#include "kernels/sample.h"

namespace penstock::PENSTOCK_KERNELS {

cudaError_t LaunchEmbed(const EmbedArgs& args, cudaStream_t stream);
cudaError_t LaunchNorm(const NormArgs& args, cudaStream_t stream);
cudaError_t LaunchGated(const GatedArgs& args, cudaStream_t stream);
cudaError_t LaunchRope(const RopeArgs& args, cudaStream_t stream);
/// LaunchAttention, whose items are the whole work, then LaunchAttentionMerge where items were split.
cudaError_t LaunchAttention(const AttentionArgs& args, cudaStream_t stream);
cudaError_t LaunchAttentionMerge(const AttentionArgs& args, cudaStream_t stream);
/// Draws from rows without top-k, top-p and min-p.
cudaError_t LaunchScan(const ScanArgs& args, cudaStream_t stream);

}  // namespace penstock::PENSTOCK_KERNELS
