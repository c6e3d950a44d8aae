// Kernels over one row: norm, rotary embedding, gated activation, conversion. Included by
// kernels_avx2.cc and kernels_avx512.cc only.
// Owns nothing. Must not know models or batches.
// Threads: any, on disjoint outputs.
#pragma once

#include "backend/cpu/kernels.h"
#include "backend/cpu/simd.h"

namespace penstock {
namespace {

template <class T>
void RmsNormRow(const T* x, const float* weight, float eps, int64_t n, T* y) {
  V acc[4] = {Zero(), Zero(), Zero(), Zero()};
  int which = 0;
  ForVectors(n, [&](int64_t i, int count) {
    const V v = LoadUpTo(x + i, count);
    acc[which & 3] = Fma(v, v, acc[which & 3]);
    ++which;
  });
  const float sum = ReduceAdd((acc[0] + acc[1]) + (acc[2] + acc[3]));
  const V inverse = Set1(1.0f / __builtin_sqrtf(sum / static_cast<float>(n) + eps));
  ForVectors(n, [&](int64_t i, int count) {
    StoreUpTo(y + i, LoadUpTo(x + i, count) * inverse * LoadUpTo(weight + i, count), count);
  });
}

void RmsNormRowAny(bool bf16, const void* x, const float* weight, float eps, int64_t n, void* y) {
  if (bf16) {
    RmsNormRow(static_cast<const Bf16*>(x), weight, eps, n, static_cast<Bf16*>(y));
  } else {
    RmsNormRow(static_cast<const float*>(x), weight, eps, n, static_cast<float*>(y));
  }
}

/// (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin), i with i + half.
template <class T>
void Rotate(T* x, const float* cos_sin, int64_t half) {
  ForVectors(half, [&](int64_t i, int count) {
    const V c = LoadUpTo(cos_sin + i, count);
    const V s = LoadUpTo(cos_sin + half + i, count);
    const V a = LoadUpTo(x + i, count);
    const V b = LoadUpTo(x + half + i, count);
    StoreUpTo(x + i, a * c - b * s, count);
    StoreUpTo(x + half + i, b * c + a * s, count);
  });
}

template <class From, class To>
void ConvertRow(const From* x, To* y, int64_t n, float scale) {
  ForVectors(n, [&](int64_t i, int count) {
    const V v = LoadUpTo(x + i, count);
    StoreUpTo(y + i, scale == 1.0f ? v : v * Set1(scale), count);
  });
}

template <class T, class Kv>
void RopeRow(const RopeRowArgs& a) {
  const int64_t dim = a.heads.head_dim;
  T* head = static_cast<T*>(a.qkv);
  for (int h = 0; h < a.heads.num_heads + a.heads.num_kv_heads; ++h, head += dim) {
    const float* norm = h < a.heads.num_heads ? a.q_norm : a.k_norm;
    if (norm != nullptr) RmsNormRow(head, norm, a.norm_eps, dim, head);
    if (a.cos_sin != nullptr) Rotate(head, a.cos_sin, a.rotary_dim / 2);
  }
  if (a.k_out == nullptr) return;
  const T* k = static_cast<const T*>(a.qkv) + a.heads.num_heads * dim;
  const T* v = k + a.heads.num_kv_heads * dim;
  for (int h = 0; h < a.heads.num_kv_heads; ++h) {
    ConvertRow(k + h * dim, static_cast<Kv*>(a.k_out) + h * a.head_stride, dim, 1.0f);
    ConvertRow(v + h * dim, static_cast<Kv*>(a.v_out) + h * a.head_stride, dim, 1.0f);
  }
}

void RopeRowAny(const RopeRowArgs& a) {
  if (a.bf16) {
    a.kv_bf16 ? RopeRow<Bf16, Bf16>(a) : RopeRow<Bf16, float>(a);
  } else {
    a.kv_bf16 ? RopeRow<float, Bf16>(a) : RopeRow<float, float>(a);
  }
}

inline V Activate(Activation f, V x) {
  switch (f) {
    case Activation::kSilu:
      return x * Sigmoid(x);
    case Activation::kGeluTanh: {
      const V inner = Set1(0.7978845608f) * Fma(Set1(0.044715f) * x * x, x, x);
      return x * Sigmoid(inner + inner);
    }
    case Activation::kGelu: {
      float lanes[kLanes];
      Store(lanes, x);
      for (float& lane : lanes) lane = 0.5f * lane * (1.0f + __builtin_erff(lane * 0.70710678f));
      return Load(lanes);
    }
    case Activation::kRelu:
      return Max(x, Zero());
  }
  return x;
}

template <class T>
void GatedRow(Activation f, const T* gate, const T* up, int64_t n, T* y) {
  ForVectors(n, [&](int64_t i, int count) {
    const V activated = Rounded(Activate(f, LoadUpTo(gate + i, count)), y);
    StoreUpTo(y + i, activated * LoadUpTo(up + i, count), count);
  });
}

void GatedRowAny(bool bf16, Activation f, const void* gate, const void* up, int64_t n, void* y) {
  if (bf16) {
    GatedRow(f, static_cast<const Bf16*>(gate), static_cast<const Bf16*>(up), n,
             static_cast<Bf16*>(y));
  } else {
    GatedRow(f, static_cast<const float*>(gate), static_cast<const float*>(up), n,
             static_cast<float*>(y));
  }
}

template <class To>
void ConvertRowFrom(DType from, const void* x, To* y, int64_t n, float scale) {
  switch (from) {
    case DType::kFloat32:
      return ConvertRow(static_cast<const float*>(x), y, n, scale);
    case DType::kBFloat16:
      return ConvertRow(static_cast<const Bf16*>(x), y, n, scale);
    case DType::kFloat16:
      return ConvertRow(static_cast<const Fp16*>(x), y, n, scale);
    default:
      __builtin_trap();
  }
}

void ConvertRowAny(DType from, const void* x, bool to_bf16, void* y, int64_t n, float scale) {
  if (to_bf16) {
    ConvertRowFrom(from, x, static_cast<Bf16*>(y), n, scale);
  } else {
    ConvertRowFrom(from, x, static_cast<float*>(y), n, scale);
  }
}

}  // namespace
}  // namespace penstock
