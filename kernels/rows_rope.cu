#include <type_traits>

#include "kernels/launch.h"
#include "kernels/rows.cuh"

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr int kWarps = 4;     // of a block, a head of a row each
constexpr int kMaxDim = 512;  // of a head

/// RMSNorm of a head; no weight: ones.
template <class T>
__device__ void WarpNormHead(float* head, const float* weight, float eps, int32_t dim) {
  const int lane = threadIdx.x % 32;
  float squares = 0.0f;
  for (int32_t i = lane; i < dim; i += 32) squares = __fmaf_rn(head[i], head[i], squares);
  for (int bit = 16; bit > 0; bit /= 2) squares += __shfl_xor_sync(0xffffffff, squares, bit);
  const float inverse = InverseRoot(squares, dim, eps);
  for (int32_t i = lane; i < dim; i += 32) {
    float v = __fmul_rn(head[i], inverse);
    if (weight != nullptr) v = __fmul_rn(v, weight[i]);
    head[i] = Rounded<T>(v);
  }
  __syncwarp();
}

/// (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin), i with i + half.
template <class T>
__device__ void WarpRotate(float* x, const float* cos_sin, int32_t half) {
  for (int32_t i = threadIdx.x % 32; i < half; i += 32) {
    const float c = cos_sin[i];
    const float s = cos_sin[half + i];
    const float a = x[i];
    const float b = x[half + i];
    x[i] = Rounded<T>(__fsub_rn(__fmul_rn(a, c), __fmul_rn(b, s)));
    x[half + i] = Rounded<T>(__fadd_rn(__fmul_rn(b, c), __fmul_rn(a, s)));
  }
  __syncwarp();
}

/// A head to `out`, dimensions `step` apart; int8 with its scale.
template <class Kv>
__device__ void WarpCacheHead(const float* head, int32_t dim, Kv* out, int32_t step, float*) {
  for (int32_t i = threadIdx.x % 32; i < dim; i += 32) {
    out[int64_t{i} * step] = FromFloat<Kv>(head[i]);
  }
}
__device__ void WarpCacheHead(const float* head, int32_t dim, int8_t* out, int32_t step,
                              float* scale) {
  const int lane = threadIdx.x % 32;
  float amax = 0.0f;
  bool finite = true;
  for (int32_t i = lane; i < dim; i += 32) {
    amax = fmaxf(amax, fabsf(head[i]));
    finite = finite && IsFinite(head[i]);
  }
  const ByteScale of_head = ByteScaleOf(WarpMax(amax), __all_sync(0xffffffff, finite));
  if (lane == 0) *scale = of_head.scale;
  for (int32_t i = lane; i < dim; i += 32) {
    out[int64_t{i} * step] = ToByte(head[i], of_head.inverse);
  }
}

enum class Part : uint8_t { kQuery, kKey, kValue };

/// Where the cache has a head of this row, if it has it.
template <class Kv>
__device__ void WarpCache(const RopeArgs& a, int64_t row, Part part, int32_t kv_head,
                          const float* head) {
  const RowCache& cache = a.cache;
  const int32_t slot = a.slots[row];
  if (slot < 0) return;
  const int32_t position = a.positions[row];
  const int32_t block =
      cache.tables[int64_t{slot} * cache.max_blocks + position / cache.block_size];
  if (block < 0) return;
  const int32_t within = position % cache.block_size;
  const bool is_key = part == Part::kKey;
  const int32_t unit = is_key && cache.kv_stride != 0 ? cache.key_unit : 1;
  Kv* first = static_cast<Kv*>(cache.data) + int64_t{block} * cache.block_stride +
              (is_key ? 0 : cache.kv_stride) + int64_t{kv_head} * cache.head_stride;
  Kv* out = first + int64_t{within / unit} * unit * a.head_dim + within % unit;
  float* scale =
      reinterpret_cast<float*>(reinterpret_cast<char*>(first) + cache.scales_at) + within;
  WarpCacheHead(head, a.head_dim, out, unit, scale);
}

template <class T, class Kv>
__global__ void __launch_bounds__(kWarps * 32) RopeKernel(RopeArgs a, int32_t num_all_heads) {
  PdlTrigger();
  PdlWait();
  SHARED_ARRAY(float, heads, kWarps* kMaxDim);
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int32_t h = blockIdx.y * kWarps + warp;
  if (h >= num_all_heads) return;
  const int64_t row = blockIdx.x;
  const int32_t num_queries = a.num_heads;
  const int32_t num_rotated = num_queries + a.num_kv_heads;
  const Part part = h < num_queries ? Part::kQuery : h < num_rotated ? Part::kKey : Part::kValue;
  float* head = heads + warp * kMaxDim;
  for (int32_t i = lane; i < a.head_dim; i += 32) {
    float v[1];
    LoadRounded<T>(a.x, row, h * a.head_dim + i, v);
    head[i] = v[0];
  }
  __syncwarp();
  const float* weight = part == Part::kQuery ? a.q_norm : part == Part::kKey ? a.k_norm : nullptr;
  if (weight != nullptr || (part == Part::kValue && a.v_norm)) {
    WarpNormHead<T>(head, weight, a.norm_eps, a.head_dim);
  }
  if (part != Part::kValue && a.cos_sin != nullptr) {
    const int64_t turn = a.rope_rows == nullptr ? a.positions[row] : a.rope_rows[row];
    WarpRotate<T>(head + a.rotary_begin, a.cos_sin + turn * a.rotary_dim, a.rotary_dim / 2);
  }
  if (part == Part::kQuery && a.q_scale != nullptr) {
    const float scale = a.q_scale[a.positions[row]];
    for (int32_t i = lane; i < a.head_dim; i += 32) {
      head[i] = Rounded<T>(__fmul_rn(head[i], scale));
    }
    __syncwarp();
  }
  T* qkv = static_cast<T*>(a.qkv) + row * a.qkv_stride + int64_t{h} * a.head_dim;
  for (int32_t i = lane; i < a.head_dim; i += 32) qkv[i] = FromFloat<T>(head[i]);
  if (part == Part::kQuery || a.cache.data == nullptr) return;
  WarpCache<Kv>(a, row, part, part == Part::kKey ? h - num_queries : h - num_rotated, head);
}

}  // namespace

cudaError_t LaunchRope(const RopeArgs& a, cudaStream_t stream) {
  if (a.rows == 0) return cudaSuccess;
  if (a.head_dim > kMaxDim) return cudaErrorInvalidValue;
  const bool keys_are_values = a.cache.data != nullptr && a.cache.kv_stride == 0;
  const int32_t heads = a.num_heads + (keys_are_values ? 1 : 2) * a.num_kv_heads;
  const KernelShape shape{"rope", dim3(a.rows, (heads + kWarps - 1) / kWarps), dim3(kWarps * 32), 0,
                          stream};
  return ForElement(a.element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if (a.cache.element == Element::kInt8) return Launch(shape, RopeKernel<T, int8_t>, a, heads);
    return ForElement(a.cache.element, [&](auto* kv_type) {
      using Kv = std::remove_pointer_t<decltype(kv_type)>;
      return Launch(shape, RopeKernel<T, Kv>, a, heads);
    });
  });
}

}  // namespace penstock::PENSTOCK_KERNELS
