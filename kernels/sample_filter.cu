#include "kernels/launch.cuh"
#include "kernels/launch.h"
#include "kernels/philox.h"
#include "kernels/sample_select.cuh"

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr int kScaleThreads = 256;

__device__ float NotANumber() { return __uint_as_float(0x7fc00000u); }

/// One part of one row: logits over the temperature, and the best of them under each set of rules.
__global__ void __launch_bounds__(kScaleThreads) ScaleKernel(FilterArgs args) {
  PdlTrigger();
  PdlWait();
  SHARED_ARRAY(ScanBest, warps, kScanRules * kScaleThreads / kWarpLanes);
  const ScanArgs& a = args.scan;
  const ScanRow row = a.rows[blockIdx.y];
  const float* logits = a.logits + row.row * a.stride;
  float* scaled = args.scaled + int64_t{blockIdx.y} * a.vocab;
  ScanBest best[kScanRules];
  for (ScanBest& b : best) b = {NegativeInfinity(), -1};
  const int32_t begin = blockIdx.x * kScanPart;
  const int32_t end = min(begin + kScanPart, a.vocab);
  for (int32_t id = begin + threadIdx.x; id < end; id += kScaleThreads) {
    float x = logits[id];
    const bool number = x == x;
    x = Adjusted(row, a.vocab, id, fminf(x, kMaxFloat));
    const bool masked = row.mask != nullptr && (row.mask[id / 32] >> id % 32 & 1) == 0;
    const bool candidate = number && x != NegativeInfinity() && !masked;
    const ScanBest one{__fdiv_rn(x, row.temperature), id};
    scaled[id] = candidate ? one.score : NotANumber();
    if (candidate) Offer(row, one, best);
  }
  const int64_t part = int64_t{blockIdx.y} * gridDim.x + blockIdx.x;
  StoreBest<kScaleThreads / kWarpLanes>(best, warps, a.partial + part * kScanRules);
}

/// The first set of rules that leaves anything, and the best under it; kScanRules: none does.
__device__ int ChooseRule(const ScanBest* partial, int32_t num_parts, ScanBest& best) {
  for (int rule = 0; rule < kScanRules; ++rule) {
    best = {NegativeInfinity(), -1};
    for (int32_t i = threadIdx.x % kWarpLanes; i < num_parts; i += kWarpLanes) {
      const ScanBest other = partial[i * kScanRules + rule];
      if (IsBetter(other, best)) best = other;
    }
    best = WarpBest(best);
    if (best.id >= 0) return rule;
  }
  return kScanRules;
}

/// Takes away what the rules forbid; each thread what it reads itself.
__device__ void ApplyRule(const ScanRow& row, int rule, float* scaled, int32_t vocab) {
  const int32_t num_allowed = rule < 2 ? row.num_allowed : 0;
  const int32_t num_banned = rule < 1 ? row.num_banned : 0;
  if (num_allowed == 0 && num_banned == 0) return;
  for (int32_t id = threadIdx.x; id < vocab; id += kSelectThreads) {
    const bool stays = (num_allowed == 0 || Holds(row.allowed, num_allowed, id)) &&
                       !Holds(row.banned, num_banned, id);
    if (!stays) scaled[id] = NotANumber();
  }
}

/// The highest value with noise; by all threads.
__device__ int32_t GumbelArgmax(const Candidates& c, const ScanRow& row, ScanBest* warps) {
  ScanBest best{NegativeInfinity(), -1};
  ForCandidates(c, [&](Place place, float x) {
    const int32_t id = IdAt(place);
    const PhiloxWords noise = Philox(id / 4, row.position, row.seed);
    const uint32_t word = id % 4 < 2 ? (id % 2 == 0 ? noise.words[0] : noise.words[1])
                                     : (id % 2 == 0 ? noise.words[2] : noise.words[3]);
    const ScanBest one{__fadd_rn(x, NoiseOf(word)), id};
    if (IsBetter(one, best)) best = one;
  });
  return BlockBest(best, warps).id;
}

__global__ void __launch_bounds__(kSelectThreads) FilterKernel(FilterArgs args, int32_t num_parts) {
  PdlTrigger();
  PdlWait();
  SELECT_TABLES(tables);
  SHARED_ARRAY(ScanBest, warps, kSelectWarps);
  const ScanArgs& a = args.scan;
  const ScanRow row = a.rows[blockIdx.x];
  float* scaled = args.scaled + int64_t{blockIdx.x} * a.vocab;
  ScanBest best;
  const int rule =
      ChooseRule(a.partial + int64_t{blockIdx.x} * num_parts * kScanRules, num_parts, best);
  if (rule == kScanRules) {
    if (threadIdx.x == 0) a.tokens[blockIdx.x] = -1;
    return;
  }
  ApplyRule(row, rule, scaled, a.vocab);
  Candidates c;
  c.values = scaled;
  c.size = a.vocab;
  c.best = best.score;
  c.order = OrderOf(best.score);
  c.limit =
      row.log_min_p == NegativeInfinity() ? row.log_min_p : __fadd_rn(best.score, row.log_min_p);
  if (row.top_k > 0) {
    int32_t some = 0;
    ForCandidates(c, [&](Place, float) { ++some; });
    if (BlockSum(some, tables.warps) > row.top_k) {
      c.last = FindEnd<false>(
          c, [&](Mass) { return static_cast<Mass>(row.top_k); }, tables);
    }
    __syncthreads();
    if (row.top_k <= kListed && c.last != ~Place{0}) {
      c.listed = List(c, 0, c.last, tables);
      c.list = tables.list;
    }
  }
  if (row.top_p < 1.0f) {
    const auto wanted = [&](Mass total) {
      const auto some =
          static_cast<Mass>(static_cast<double>(row.top_p) * static_cast<double>(total));
      return some > 0 ? some : Mass{1};
    };
    c.last = FindEnd<true>(c, wanted, tables);
  }
  const int32_t token = GumbelArgmax(c, row, warps);
  if (threadIdx.x == 0) a.tokens[blockIdx.x] = token;
}

}  // namespace

cudaError_t LaunchFilter(const FilterArgs& args, cudaStream_t stream) {
  const ScanArgs& a = args.scan;
  if (a.num_rows == 0) return cudaSuccess;
  const int32_t num_parts = (a.vocab + kScanPart - 1) / kScanPart;
  const cudaError_t error =
      Launch({"filter_scale", dim3(num_parts, a.num_rows), dim3(kScaleThreads), 0, stream},
             ScaleKernel, args);
  if (error != cudaSuccess) return error;
  return Launch({"filter", dim3(a.num_rows), dim3(kSelectThreads), 0, stream}, FilterKernel, args,
                num_parts);
}

}  // namespace penstock::PENSTOCK_KERNELS
