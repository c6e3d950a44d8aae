#include <type_traits>

#include "kernels/delta_launch.h"
#include "kernels/rows.cuh"

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr float kDeltaNormEps = 1e-6f;
constexpr int kConvWarps = 4;  // of a block, a head of a row each
constexpr int kHistoryThreads = 128;
constexpr int kScanColumns = 32;  // of a block's part of a state
constexpr int kScanParts = 4;     // threads that share a column
constexpr int kScanThreads = kScanColumns * kScanParts;
constexpr int kKeysAtOnce = 4;  // that lie together, of a thread

/// Channel `c` of the position that is `back` before row `row` of its sequence.
template <class T>
__device__ float InputBefore(const DeltaRuleArgs& a, const DeltaSequence& s, int32_t row,
                             int32_t back, int32_t c) {
  const int32_t within = row - back;
  if (within >= 0) {
    return ToFloat(
        static_cast<const T*>(a.qkv)[(int64_t{s.row_begin} + within) * a.qkv_stride + c]);
  }
  const int32_t history = a.conv_width - 1;
  return a.states[s.slot * a.state_stride + int64_t{history + within} * a.channels() + c];
}

/// The convolution over time and SiLU, then unit length of q and k heads, q over sqrt(key_dim).
template <class T>
__global__ void __launch_bounds__(kConvWarps * 32) DeltaConvKernel(DeltaRuleArgs a) {
  PdlTrigger();
  PdlWait();
  const int lane = threadIdx.x % 32;
  const int32_t head = blockIdx.y * kConvWarps + threadIdx.x / 32;
  const int32_t keys = 2 * a.num_key_heads;
  if (head >= keys + a.num_value_heads) return;
  const int64_t row = blockIdx.x;
  const DeltaSequence s = a.sequences[a.sequence_of[row]];
  const auto within = static_cast<int32_t>(row - s.row_begin);
  const bool is_value = head >= keys;
  const int32_t dim = is_value ? a.value_dim : a.key_dim;
  const int32_t begin =
      is_value ? keys * a.key_dim + (head - keys) * a.value_dim : head * a.key_dim;
  float* out = a.convolved + row * a.channels() + begin;
  float squares = 0.0f;
  for (int32_t i = lane; i < dim; i += 32) {
    float sum = 0.0f;
    for (int32_t t = 0; t < a.conv_width; ++t) {
      const float x = InputBefore<T>(a, s, within, a.conv_width - 1 - t, begin + i);
      sum = __fmaf_rn(x, a.conv[int64_t{t} * a.channels() + begin + i], sum);
    }
    const float v = __fmul_rn(sum, Sigmoid(sum));
    out[i] = v;
    squares = __fmaf_rn(v, v, squares);
  }
  if (is_value) return;
  for (int bit = 16; bit > 0; bit /= 2) squares += __shfl_xor_sync(0xffffffff, squares, bit);
  const float length = __fsqrt_rn(__fadd_rn(squares, kDeltaNormEps));
  const float scale =
      head < a.num_key_heads ? __fdiv_rn(1.0f, __fsqrt_rn(static_cast<float>(a.key_dim))) : 1.0f;
  const float factor = __fdiv_rn(scale, length);
  for (int32_t i = lane; i < dim; i += 32) out[i] = __fmul_rn(out[i], factor);
}

/// The last conv_width - 1 positions become what the next step convolves with.
template <class T>
__global__ void __launch_bounds__(kHistoryThreads) DeltaHistoryKernel(DeltaRuleArgs a) {
  PdlTrigger();
  PdlWait();
  const int32_t c = blockIdx.x * kHistoryThreads + threadIdx.x;
  if (c >= a.channels()) return;
  const DeltaSequence s = a.sequences[blockIdx.y];
  float* state = a.states + s.slot * a.state_stride + c;
  const int32_t history = a.conv_width - 1;
  // In this order what is written has been read: it lies num_rows positions behind.
  for (int32_t t = 0; t < history; ++t) {
    state[int64_t{t} * a.channels()] = InputBefore<T>(a, s, s.num_rows, history - t, c);
  }
}

__device__ float Softplus(float x) { return x > 20.0f ? x : log1pf(Exp(x)); }

/// kKeys: of a head, at most. A thread has a quarter of the keys of one column of one value head's
/// state, in registers, over all rows of a sequence.
template <class T, int kKeys>
__global__ void __launch_bounds__(kScanThreads) DeltaScanKernel(DeltaRuleArgs a) {
  PdlTrigger();
  PdlWait();
  constexpr int kRuns = kKeys / (kScanParts * kKeysAtOnce);
  const int lane = threadIdx.x % 32;
  const int part = lane / 8;
  const int32_t head = blockIdx.x;
  const int32_t column = blockIdx.z * kScanColumns + threadIdx.x / 32 * 8 + lane % 8;
  const bool has_column = column < a.value_dim;
  const DeltaSequence s = a.sequences[blockIdx.y];
  const int32_t key_head = head / (a.num_value_heads / a.num_key_heads);
  const int32_t keys = a.num_key_heads * a.key_dim;
  float* state = a.states + s.slot * a.state_stride + int64_t{a.conv_width - 1} * a.channels() +
                 int64_t{head} * a.key_dim * a.value_dim + column;
  float own[kRuns][kKeysAtOnce];
#pragma unroll
  for (int r = 0; r < kRuns; ++r) {
#pragma unroll
    for (int i = 0; i < kKeysAtOnce; ++i) {
      const int32_t key = (r * kScanParts + part) * kKeysAtOnce + i;
      own[r][i] = key < a.key_dim && has_column ? state[int64_t{key} * a.value_dim] : 0.0f;
    }
  }
#pragma unroll 1
  for (int32_t row = s.row_begin; row < s.row_begin + s.num_rows; ++row) {
    const float* of_row = a.convolved + int64_t{row} * a.channels();
    const float* q = of_row + key_head * a.key_dim + part * kKeysAtOnce;
    const float* k = q + keys;
    const float* ba = a.ba + int64_t{row} * a.ba_stride;
    const float beta = Sigmoid(ba[head]);
    const float step = Softplus(__fadd_rn(ba[a.num_value_heads + head], a.dt_bias[head]));
    const float decay = Exp(__fmul_rn(__fsub_rn(0.0f, a.decay[head]), step));
    float recalled = 0.0f;
#pragma unroll
    for (int r = 0; r < kRuns; ++r) {
      if ((r * kScanParts + part) * kKeysAtOnce < a.key_dim) {
        const float4 four = *reinterpret_cast<const float4*>(k + r * kScanParts * kKeysAtOnce);
        const float key[kKeysAtOnce] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int i = 0; i < kKeysAtOnce; ++i) {
          own[r][i] = __fmul_rn(own[r][i], decay);
          recalled = __fmaf_rn(key[i], own[r][i], recalled);
        }
      }
    }
    recalled += __shfl_xor_sync(0xffffffff, recalled, 8);
    recalled += __shfl_xor_sync(0xffffffff, recalled, 16);
    const float value = has_column ? of_row[2 * keys + head * a.value_dim + column] : 0.0f;
    const float delta = __fmul_rn(__fsub_rn(value, recalled), beta);
    float y = 0.0f;
#pragma unroll
    for (int r = 0; r < kRuns; ++r) {
      if ((r * kScanParts + part) * kKeysAtOnce < a.key_dim) {
        const float4 kf = *reinterpret_cast<const float4*>(k + r * kScanParts * kKeysAtOnce);
        const float4 qf = *reinterpret_cast<const float4*>(q + r * kScanParts * kKeysAtOnce);
        const float key[kKeysAtOnce] = {kf.x, kf.y, kf.z, kf.w};
        const float query[kKeysAtOnce] = {qf.x, qf.y, qf.z, qf.w};
#pragma unroll
        for (int i = 0; i < kKeysAtOnce; ++i) {
          own[r][i] = __fmaf_rn(key[i], delta, own[r][i]);
          y = __fmaf_rn(query[i], own[r][i], y);
        }
      }
    }
    y += __shfl_xor_sync(0xffffffff, y, 8);
    y += __shfl_xor_sync(0xffffffff, y, 16);
    if (part == 0 && has_column) {
      static_cast<T*>(a.y)[int64_t{row} * a.y_stride + head * a.value_dim + column] =
          FromFloat<T>(y);
    }
  }
  if (!has_column) return;
#pragma unroll
  for (int r = 0; r < kRuns; ++r) {
#pragma unroll
    for (int i = 0; i < kKeysAtOnce; ++i) {
      const int32_t key = (r * kScanParts + part) * kKeysAtOnce + i;
      if (key < a.key_dim) state[int64_t{key} * a.value_dim] = own[r][i];
    }
  }
}

bool CanServe(const DeltaRuleArgs& a) {
  return a.key_dim > 0 && a.key_dim <= kMostDeltaKeys && a.key_dim % kDeltaKeyUnit == 0 &&
         a.channels() % kDeltaKeyUnit == 0 && a.value_dim > 0 && a.conv_width > 0 &&
         a.num_key_heads > 0 && a.num_value_heads % a.num_key_heads == 0 &&
         AreAligned({a.convolved});
}

}  // namespace

cudaError_t LaunchDeltaRule(const DeltaRuleArgs& a, cudaStream_t stream) {
  if (!CanServe(a)) return cudaErrorInvalidValue;
  if (a.rows == 0) return cudaSuccess;
  const int32_t heads = 2 * a.num_key_heads + a.num_value_heads;
  const KernelShape conv{"delta conv", dim3(a.rows, (heads + kConvWarps - 1) / kConvWarps),
                         dim3(kConvWarps * 32), 0, stream};
  const KernelShape history{
      "delta history",
      dim3((a.channels() + kHistoryThreads - 1) / kHistoryThreads, a.num_sequences),
      dim3(kHistoryThreads), 0, stream};
  const KernelShape scan{
      "delta scan",
      dim3(a.num_value_heads, a.num_sequences, (a.value_dim + kScanColumns - 1) / kScanColumns),
      dim3(kScanThreads), 0, stream};
  return ForElement(a.element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    cudaError_t error = Launch(conv, DeltaConvKernel<T>, a);
    if (error == cudaSuccess && a.conv_width > 1) error = Launch(history, DeltaHistoryKernel<T>, a);
    if (error != cudaSuccess) return error;
    return a.key_dim <= 128 ? Launch(scan, DeltaScanKernel<T, 128>, a)
                            : Launch(scan, DeltaScanKernel<T, kMostDeltaKeys>, a);
  });
}

}  // namespace penstock::PENSTOCK_KERNELS
