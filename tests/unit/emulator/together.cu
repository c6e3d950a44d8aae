#include "kernels/peer_reduce.cuh"
#include "unit/emulator/planted.h"

namespace penstock::PENSTOCK_KERNELS {

__global__ void SumsOverRanks(const PeerReduceArgs* sums, int size, int steps, int blocks,
                              int absent) {
  PdlWait();
  const int rank = static_cast<int>(threadIdx.x) / kRankThreads;
  ReduceGroup group;
  group.blocks = blocks;
  group.thread = static_cast<int>(threadIdx.x) % kRankThreads;
  group.threads = kRankThreads;
  group.barrier = 1 + rank;
  for (int step = 0; step < steps; ++step) {
    if (rank == absent && step == steps - 1) return;
    for (group.block = 0; group.block < blocks; ++group.block) {
      ReduceRank<ReduceForm::kWaiting>(sums[step * size + rank], group);
      BarrierSync(group.barrier, kRankThreads);  // blocks share no memory, kernels end
    }
  }
}

}  // namespace penstock::PENSTOCK_KERNELS
