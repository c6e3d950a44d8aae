// Entry point of the gated delta rule's kernels, as those of launch.h.
// Owns nothing. Must not know the classes of the server.
// Threads: as CUDA streams.
#pragma once

#include "kernels/delta.h"
#include "kernels/runtime.h"

namespace penstock::PENSTOCK_KERNELS {

/// Convolution, then the recurrence; each sequence's state is what it carries on with.
cudaError_t LaunchDeltaRule(const DeltaRuleArgs& args, cudaStream_t stream);

}  // namespace penstock::PENSTOCK_KERNELS
