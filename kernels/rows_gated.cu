#include <type_traits>

#include "kernels/launch.h"
#include "kernels/rows.cuh"

namespace penstock::PENSTOCK_KERNELS {
namespace {

__device__ float Activated(Gate f, float x, float limit) {
  switch (f) {
    case Gate::kSilu:
      return __fmul_rn(x, Sigmoid(x));
    case Gate::kGelu: {
      const float tail = __fadd_rn(1.0f, erff(__fmul_rn(x, 0.70710678f)));
      return __fmul_rn(__fmul_rn(0.5f, x), tail);
    }
    case Gate::kGeluTanh: {
      const float cube = __fmaf_rn(__fmul_rn(__fmul_rn(0.044715f, x), x), x, x);
      const float inner = __fmul_rn(0.7978845608f, cube);
      return __fmul_rn(x, Sigmoid(__fadd_rn(inner, inner)));
    }
    case Gate::kRelu:
      return fmaxf(x, 0.0f);
    case Gate::kSquaredRelu: {
      const float positive = fmaxf(x, 0.0f);
      return __fmul_rn(positive, positive);
    }
    case Gate::kSigmoid:
      return Sigmoid(x);
    case Gate::kSoftCap: {
      const float in = __fdiv_rn(x, limit);
      return __fmul_rn(limit, __fmaf_rn(2.0f, Sigmoid(__fadd_rn(in, in)), -1.0f));
    }
    case Gate::kClampedSwiglu:
    case Gate::kNone:
      break;
  }
  return x;
}

__device__ float ClampedSwiglu(float gate, float up, float limit, float alpha) {
  const float g = fminf(gate, limit);
  const float u = fmaxf(fminf(up, limit), __fsub_rn(0.0f, limit));
  return __fmul_rn(__fmul_rn(g, Sigmoid(__fmul_rn(alpha, g))), __fadd_rn(u, 1.0f));
}

template <class T, bool kBytes, int kCount>
__global__ void __launch_bounds__(kRowThreads) GatedKernel(GatedArgs a) {
  PdlTrigger();
  PdlWait();
  const int64_t row = blockIdx.x;
  RowWriter<T, kBytes> writer(a.y, row, static_cast<T*>(DynamicShared()));
  for (int32_t i = threadIdx.x * kCount; i < a.width; i += kRowThreads * kCount) {
    float v[kCount];
    float up[kCount] = {};
    LoadRounded<T>(a.gate, row, i, v);
    if (a.up.data != nullptr) LoadRounded<T>(a.up, row, i, up);
    for (int j = 0; j < kCount; ++j) {
      if (a.f == Gate::kClampedSwiglu) {
        v[j] = ClampedSwiglu(v[j], up[j], a.limit, a.alpha);
      } else {
        v[j] = Activated(a.f, v[j], a.limit);
        if (a.up.data != nullptr) v[j] = __fmul_rn(Rounded<T>(v[j]), up[j]);
      }
    }
    writer.Put(i, v);
  }
  writer.template BlockFinish<kCount>(a.width);
}

}  // namespace

cudaError_t LaunchGated(const GatedArgs& a, cudaStream_t stream) {
  if (a.rows == 0) return cudaSuccess;
  if (a.f == Gate::kClampedSwiglu && a.up.data == nullptr) return cudaErrorInvalidValue;
  const bool bytes = a.y.scales != nullptr;
  const bool vectors =
      a.width % 8 == 0 && IsOfVectors(a.gate) && IsOfVectors(a.up) && IsOfVectors(a.y);
  return ForRowInstance(a.element, bytes, vectors, [&](auto* type, auto of_bytes, auto count) {
    using T = std::remove_pointer_t<decltype(type)>;
    const size_t shared_bytes = bytes ? a.width * sizeof(T) : 0;
    const KernelShape shape{"gated", dim3(a.rows), dim3(kRowThreads), shared_bytes, stream};
    return Launch(shape, GatedKernel<T, of_bytes.value, count.value>, a);
  });
}

}  // namespace penstock::PENSTOCK_KERNELS
