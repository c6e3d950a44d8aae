#include "kernels/launch.cuh"
#include "kernels/peer_launch.h"
#include "kernels/peer_reduce.cuh"

namespace penstock::PENSTOCK_KERNELS {
namespace {

template <ReduceForm kForm>
__global__ void __launch_bounds__(kReduceThreads, 1)
    PeerReduceKernel(const __grid_constant__ PeerReduceArgs a) {
  PdlWait();  // and no PdlTrigger: ranks of one GPU need the room that the next kernel would take
  ReduceGroup group;
  group.block = static_cast<int>(blockIdx.x);
  group.blocks = static_cast<int>(gridDim.x);
  group.thread = static_cast<int>(threadIdx.x);
  ReduceRank<kForm>(a, group);
}

template <ReduceForm kForm>
cudaError_t LaunchForm(const PeerReduceArgs& a, cudaStream_t stream) {
  const int64_t quads = a.two_shot ? ReducePart(a.count, a.size) : (a.count + 3) / 4;
  const int64_t blocks = (quads + kReduceThreads - 1) / kReduceThreads;
  const KernelShape shape{
      "sum over ranks",
      dim3(static_cast<unsigned>(blocks < kReduceBlocks ? blocks : kReduceBlocks)),
      dim3(kReduceThreads), 0, stream};
  return Launch(shape, PeerReduceKernel<kForm>, a);
}

}  // namespace

cudaError_t LaunchPeerReduce(const PeerReduceArgs& a, cudaStream_t stream) {
  if (a.size < 1 || a.size > kMostRanks || a.rank < 0 || a.rank >= a.size)
    return cudaErrorInvalidValue;
  if (a.form == ReduceForm::kGather && !a.two_shot) return cudaErrorInvalidValue;
  if (a.count == 0) return cudaSuccess;
  switch (a.form) {
    case ReduceForm::kWaiting:
      return LaunchForm<ReduceForm::kWaiting>(a, stream);
    case ReduceForm::kSum:
      return LaunchForm<ReduceForm::kSum>(a, stream);
    case ReduceForm::kGather:
      return LaunchForm<ReduceForm::kGather>(a, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace penstock::PENSTOCK_KERNELS
