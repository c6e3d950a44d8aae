#include <type_traits>

#include "kernels/launch.h"
#include "kernels/rows.cuh"

namespace penstock::PENSTOCK_KERNELS {
namespace {

template <class From, class T, int kCount>
__global__ void __launch_bounds__(kRowThreads) EmbedKernel(EmbedArgs a) {
  PdlTrigger();
  PdlWait();
  const int64_t row = blockIdx.x;
  const int64_t id = a.ids == nullptr ? row : a.ids[row];
  const From* from = static_cast<const From*>(a.table) + id * a.table_stride;
  T* to = static_cast<T*>(a.y) + row * a.y_stride;
  for (int32_t i = threadIdx.x * kCount; i < a.width; i += kRowThreads * kCount) {
    float v[kCount];
    Load(from + i, v);
    if (a.scale != 1.0f) {
      for (int j = 0; j < kCount; ++j) v[j] = __fmul_rn(v[j], a.scale);
    }
    if (a.accumulate) {
      float y[kCount];
      Load(to + i, y);
      for (int j = 0; j < kCount; ++j) v[j] = __fadd_rn(v[j], y[j]);
    }
    Store(to + i, v);
  }
}

/// The row, with the residual added to it, as a T holds it.
template <class T, int kCount>
__device__ void LoadAndAdd(const NormArgs& a, int64_t row, int32_t i, float (&v)[kCount]) {
  if (a.residual == nullptr) {
    LoadRounded<T>(a.x, row, i, v);
    return;
  }
  T* residual = static_cast<T*>(a.residual) + row * a.residual_stride + i;
  float before[kCount];
  LoadInput<T>(a.x, row, i, v);
  Load(residual, before);
  for (int j = 0; j < kCount; ++j) v[j] = Rounded<T>(__fadd_rn(v[j], before[j]));
  Store(residual, v);
}

template <class T, bool kBytes, int kCount>
__global__ void __launch_bounds__(kRowThreads) NormKernel(NormArgs a) {
  PdlTrigger();
  PdlWait();
  const int64_t row = blockIdx.x;
  T* x = static_cast<T*>(DynamicShared());  // [width]
  for (int32_t i = threadIdx.x * kCount; i < a.width; i += kRowThreads * kCount) {
    float v[kCount];
    LoadAndAdd<T>(a, row, i, v);
    Store(x + i, v);
  }
  __syncthreads();
  float mean = 0.0f;
  if (a.center) {
    float sum = 0.0f;
    for (int32_t i = threadIdx.x; i < a.width; i += kRowThreads) sum += ToFloat(x[i]);
    mean = __fdiv_rn(BlockSum(sum), static_cast<float>(a.width));
  }
  float squares = 0.0f;
  for (int32_t i = threadIdx.x; i < a.width; i += kRowThreads) {
    const float v = __fsub_rn(ToFloat(x[i]), mean);
    squares = __fmaf_rn(v, v, squares);
  }
  const float inverse = InverseRoot(BlockSum(squares), a.width, a.eps);
  RowWriter<T, kBytes> writer(a.y, row, x);
  for (int32_t i = threadIdx.x * kCount; i < a.width; i += kRowThreads * kCount) {
    float v[kCount];
    Load(x + i, v);
    for (int j = 0; j < kCount; ++j) v[j] = __fmul_rn(__fsub_rn(v[j], mean), inverse);
    if (a.weight != nullptr) {
      float weight[kCount];
      Load(a.weight + i, weight);
      for (int j = 0; j < kCount; ++j) v[j] = __fmul_rn(v[j], weight[j]);
    }
    if (a.bias != nullptr) {
      float bias[kCount];
      Load(a.bias + i, bias);
      for (int j = 0; j < kCount; ++j) v[j] = __fadd_rn(v[j], bias[j]);
    }
    if constexpr (!kBytes) {
      if (a.accumulate) {
        float y[kCount];
        Load(static_cast<const T*>(a.y.data) + row * a.y.stride + i, y);
        for (int j = 0; j < kCount; ++j) v[j] = __fadd_rn(y[j], Rounded<T>(v[j]));
      }
    }
    if (a.scale != 1.0f) {
      for (int j = 0; j < kCount; ++j) v[j] = __fmul_rn(v[j], a.scale);
    }
    writer.Put(i, v);
  }
  writer.template BlockFinish<kCount>(a.width);
}

}  // namespace

cudaError_t LaunchEmbed(const EmbedArgs& a, cudaStream_t stream) {
  if (a.rows == 0) return cudaSuccess;
  const bool vectors = a.width % 8 == 0 && a.table_stride % 8 == 0 && a.y_stride % 8 == 0 &&
                       AreAligned({a.table, a.y});
  const KernelShape shape{"embed", dim3(a.rows), dim3(kRowThreads), 0, stream};
  return ForElement(a.table_element, [&](auto* from) {
    return ForElement(a.element, [&](auto* to) {
      using From = std::remove_pointer_t<decltype(from)>;
      using To = std::remove_pointer_t<decltype(to)>;
      return vectors ? Launch(shape, EmbedKernel<From, To, 8>, a)
                     : Launch(shape, EmbedKernel<From, To, 1>, a);
    });
  });
}

cudaError_t LaunchNorm(const NormArgs& a, cudaStream_t stream) {
  if (a.rows == 0) return cudaSuccess;
  const bool bytes = a.y.scales != nullptr;
  if (bytes && a.accumulate) return cudaErrorInvalidValue;
  const bool vectors = a.width % 8 == 0 && IsOfVectors(a.x) && IsOfVectors(a.y) &&
                       a.residual_stride % 8 == 0 && AreAligned({a.residual, a.weight, a.bias});
  return ForRowInstance(a.element, bytes, vectors, [&](auto* type, auto of_bytes, auto count) {
    using T = std::remove_pointer_t<decltype(type)>;
    const KernelShape shape{"norm", dim3(a.rows), dim3(kRowThreads), a.width * sizeof(T), stream};
    return Launch(shape, NormKernel<T, of_bytes.value, count.value>, a);
  });
}

}  // namespace penstock::PENSTOCK_KERNELS
