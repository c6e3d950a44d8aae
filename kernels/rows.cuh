// What row kernels share: reading rows of numbers or of exact sums, sums and maxima over a block of
// 256 threads, writing rows as numbers or as int8.
// Owns nothing. Must not know what is computed of a row.
// Threads: device code; functions named Block* are called by all threads of a block together.
#pragma once

#include <initializer_list>

#include "kernels/launch.cuh"
#include "kernels/scalar.cuh"

namespace penstock::PENSTOCK_KERNELS {

constexpr int kRowThreads = 256;  // also the lanes of a sum

/// Elements [i, i + kCount) of a row of `in`, not yet rounded where they are sums.
template <class T, int kCount>
__device__ inline void LoadInput(const RowInput& in, int64_t row, int32_t i, float (&v)[kCount]) {
  if (in.row_scales == nullptr) {
    Load(static_cast<const T*>(in.data) + row * in.stride + i, v);
    return;
  }
  int32_t sums[kCount];
  float scales[kCount];
  Load(static_cast<const int32_t*>(in.data) + row * in.stride + i, sums);
  Load(in.column_scales + i, scales);
  const float row_scale = in.row_scales[row];
  for (int j = 0; j < kCount; ++j) {
    v[j] = __fmul_rn(__fmul_rn(static_cast<float>(sums[j]), row_scale), scales[j]);
  }
  if (in.bias == nullptr) return;
  float bias[kCount];
  Load(in.bias + i, bias);
  for (int j = 0; j < kCount; ++j) v[j] = __fadd_rn(v[j], bias[j]);
}

/// The same as a T holds them.
template <class T, int kCount>
__device__ inline void LoadRounded(const RowInput& in, int64_t row, int32_t i, float (&v)[kCount]) {
  LoadInput<T>(in, row, i, v);
  if (in.row_scales == nullptr) return;
  for (int j = 0; j < kCount; ++j) v[j] = Rounded<T>(v[j]);
}

/// The sum of what every thread brings, in one tree; all threads get it.
__device__ inline float BlockSum(float v) {
  SHARED_ARRAY(float, lanes, kRowThreads);
  lanes[threadIdx.x] = v;
  __syncthreads();
  for (int half = kRowThreads / 2; half >= 32; half /= 2) {
    if (threadIdx.x < half) lanes[threadIdx.x] += lanes[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x < 32) {
    float sum = lanes[threadIdx.x];
    for (int half = 16; half > 0; half /= 2) sum += __shfl_down_sync(0xffffffff, sum, half);
    if (threadIdx.x == 0) lanes[0] = sum;
  }
  __syncthreads();
  const float sum = lanes[0];
  __syncthreads();  // the next call writes here
  return sum;
}

__device__ inline float WarpMax(float v) {
  for (int bit = 16; bit > 0; bit /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffff, v, bit));
  return v;
}

/// The largest of what every thread brings, and whether all brought `finite`.
__device__ inline ByteScale BlockByteScale(float amax, bool finite) {
  SHARED_ARRAY(float, most, kRowThreads / 32);
  SHARED_ARRAY(int32_t, all_finite, kRowThreads / 32);
  amax = WarpMax(amax);
  const bool warp_finite = __all_sync(0xffffffff, finite);
  if (threadIdx.x % 32 == 0) {
    most[threadIdx.x / 32] = amax;
    all_finite[threadIdx.x / 32] = warp_finite ? 1 : 0;
  }
  __syncthreads();
  for (int w = 0; w < kRowThreads / 32; ++w) {
    amax = fmaxf(amax, most[w]);
    finite = finite && all_finite[w] != 0;
  }
  return ByteScaleOf(amax, finite);
}

template <int kCount>
__device__ inline void StoreBytes(int8_t* p, const int8_t (&q)[kCount]) {
  if constexpr (kCount == 1) {
    *p = q[0];
  } else {
    uint32_t words[2] = {};
    for (int i = 0; i < kCount; ++i) {
      words[i / 4] |= static_cast<uint32_t>(static_cast<uint8_t>(q[i])) << i % 4 * 8;
    }
    *reinterpret_cast<uint2*>(p) = make_uint2(words[0], words[1]);
  }
}

/// Collects a row that is computed a vector at a time, each by the thread that will write it. int8
/// waits in `kept` [width] until its scale is known.
template <class T, bool kBytes>
class RowWriter {
 public:
  __device__ RowWriter(const RowOutput& y, int64_t row, T* kept) : y_(y), row_(row), kept_(kept) {}

  template <int kCount>
  __device__ void Put(int32_t i, float (&v)[kCount]) {
    if constexpr (kBytes) {
      for (int j = 0; j < kCount; ++j) {
        v[j] = Rounded<T>(v[j]);
        amax_ = fmaxf(amax_, fabsf(v[j]));
        finite_ = finite_ && IsFinite(v[j]);
      }
      Store(kept_ + i, v);
    } else {
      Store(static_cast<T*>(y_.data) + row_ * y_.stride + i, v);
    }
  }

  template <int kCount>
  __device__ void BlockFinish(int32_t width) {
    if constexpr (kBytes) {
      const ByteScale scale = BlockByteScale(amax_, finite_);
      if (threadIdx.x == 0) y_.scales[row_] = scale.scale;
      int8_t* to = static_cast<int8_t*>(y_.data) + row_ * y_.stride;
      for (int32_t i = threadIdx.x * kCount; i < width; i += kRowThreads * kCount) {
        float v[kCount];
        int8_t q[kCount];
        Load(kept_ + i, v);
        for (int j = 0; j < kCount; ++j) q[j] = ToByte(v[j], scale.inverse);
        StoreBytes(to + i, q);
      }
    }
  }

 private:
  RowOutput y_;
  int64_t row_;
  T* kept_;
  float amax_ = 0.0f;
  bool finite_ = true;
};

// Whether rows can be read and written 8 elements at a time.
inline bool AreAligned(std::initializer_list<const void*> pointers) {
  for (const void* p : pointers) {
    if (reinterpret_cast<uintptr_t>(p) % 16 != 0) return false;
  }
  return true;
}
inline bool IsOfVectors(const RowInput& in) {
  return in.stride % 8 == 0 && AreAligned({in.data, in.column_scales, in.bias});
}
inline bool IsOfVectors(const RowOutput& out) {
  return out.stride % 8 == 0 && AreAligned({out.data});
}

/// Calls fn(type, bytes, count) with values whose types say the element, whether the output is int8
/// (std::bool_constant) and the elements a thread takes at a time (std::integral_constant).
template <class Fn>
cudaError_t ForRowInstance(Element element, bool bytes, bool vectors, Fn fn) {
  return ForElement(element, [&](auto* type) {
    const auto with_count = [&](auto of_bytes) {
      return vectors ? fn(type, of_bytes, std::integral_constant<int, 8>())
                     : fn(type, of_bytes, std::integral_constant<int, 1>());
    };
    return bytes ? with_count(std::true_type()) : with_count(std::false_type());
  });
}

}  // namespace penstock::PENSTOCK_KERNELS
