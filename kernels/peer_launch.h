// Entry point of the sums over ranks, as those of launch.h.
// Owns nothing. Must not know the classes of the server.
// Threads: as CUDA streams.
#pragma once

#include "kernels/peer_reduce.h"
#include "kernels/runtime.h"

namespace penstock::PENSTOCK_KERNELS {

/// A rank's part of a sum over ranks, or the whole of it: by the form.
cudaError_t LaunchPeerReduce(const PeerReduceArgs& args, cudaStream_t stream);

}  // namespace penstock::PENSTOCK_KERNELS
