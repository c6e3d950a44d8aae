#include "kernels/launch.cuh"
#include "kernels/launch.h"
#include "kernels/sample_select.cuh"

namespace penstock::PENSTOCK_KERNELS {
namespace {

/// The log of the sum of e^x over the row is the best plus this.
__device__ float LogSumOf(const Candidates& c, const SelectTables& t) {
  Mass sum = 0;
  ForCandidates(c, [&](Place, float x) { sum += MassOf(x, c.best); });
  sum = BlockSum(sum, t.warps);
  __syncthreads();
  return Log(static_cast<float>(static_cast<double>(sum) * 0x1p-44));
}

__device__ float LogprobOf(const Candidates& c, float x, float log_sum) {
  if (x == NegativeInfinity()) return x;
  return __fsub_rn(__fsub_rn(x, c.best), log_sum);
}

__device__ void ScoreOne(const Candidates& c, int32_t id, float log_sum, const SelectTables& t,
                         TokenScore* out) {
  if (id < 0) {
    if (threadIdx.x == 0) *out = {-1, 0, 0.0f};
    return;
  }
  const float own = Countable(c.values[id]);
  int32_t before = 0;
  ForCandidates(c, [&](Place, float x) { before += x > own ? 1 : 0; });
  const Mass all_before = BlockSum(before, t.warps);
  __syncthreads();
  if (threadIdx.x == 0)
    *out = {id, static_cast<int32_t>(all_before) + 1, LogprobOf(c, own, log_sum)};
}

/// The n most likely, in order: a candidate's number is that of those before it.
__device__ void ScoreTop(const Candidates& c, int32_t n, float log_sum, const SelectTables& t,
                         TokenScore* out) {
  Place last = ~Place{0};
  if (n < c.size)
    last = FindEnd<false>(
        c, [&](Mass) { return static_cast<Mass>(n); }, t);
  __syncthreads();
  List(c, 0, last, t);
  for (int32_t i = threadIdx.x; i < n; i += kSelectThreads) {
    const Place own = t.list[i];
    int32_t before = 0;
    for (int32_t j = 0; j < n; ++j) before += t.list[j] < own ? 1 : 0;
    out[before] = {IdAt(own), before + 1, LogprobOf(c, ValueAt(c, own), log_sum)};
  }
}

__global__ void __launch_bounds__(kSelectThreads) ScoreKernel(ScoreArgs a) {
  PdlTrigger();
  PdlWait();
  SELECT_TABLES(tables);
  SHARED_ARRAY(ScanBest, warps, kSelectWarps);
  const ScoreRow row = a.rows[blockIdx.x];
  Candidates c;
  c.values = a.logits + row.row * a.stride;
  c.size = a.vocab;
  c.raw = true;
  c.limit = NegativeInfinity();
  ScanBest best{NegativeInfinity(), -1};
  for (int32_t id = threadIdx.x; id < a.vocab; id += kSelectThreads) {
    const ScanBest one{Countable(c.values[id]), id};
    if (IsBetter(one, best)) best = one;
  }
  best = BlockBest(best, warps);
  c.best = best.score;
  c.order = OrderOf(best.score);
  const float log_sum = LogSumOf(c, tables);
  ScoreOne(c, row.token == nullptr ? -1 : *row.token, log_sum, tables, row.scores);
  const int32_t n = min(row.num_top, a.vocab);
  if (n > 0) ScoreTop(c, n, log_sum, tables, row.scores + 1);
  for (int32_t i = n + threadIdx.x; i < row.num_top; i += kSelectThreads) {
    row.scores[1 + i] = {-1, 0, 0.0f};
  }
  for (int32_t i = 0; i < row.num_also; ++i) {
    ScoreOne(c, row.also[i], log_sum, tables, row.scores + 1 + row.num_top + i);
  }
}

}  // namespace

cudaError_t LaunchScore(const ScoreArgs& a, cudaStream_t stream) {
  if (a.num_rows == 0) return cudaSuccess;
  return Launch({"score", dim3(a.num_rows), dim3(kSelectThreads), 0, stream}, ScoreKernel, a);
}

}  // namespace penstock::PENSTOCK_KERNELS
