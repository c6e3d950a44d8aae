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
float SumRow(const T* x, int64_t n) {
  V acc[4] = {Zero(), Zero(), Zero(), Zero()};
  int which = 0;
  ForVectors(n, [&](int64_t i, int count) {
    acc[which & 3] = acc[which & 3] + LoadUpTo(x + i, count);
    ++which;
  });
  return ReduceAdd((acc[0] + acc[1]) + (acc[2] + acc[3]));
}

/// Sum of (x - center)^2 over a row.
template <class T>
float SquaresRow(const T* x, float center, int64_t n) {
  V acc[4] = {Zero(), Zero(), Zero(), Zero()};
  float centers[kLanes] = {};
  for (int64_t i = 0; i < n % kLanes; ++i) centers[i] = center;
  int which = 0;
  ForVectors(n, [&](int64_t i, int count) {
    const V v = LoadUpTo(x + i, count) - (count == kLanes ? Set1(center) : Load(centers));
    acc[which & 3] = Fma(v, v, acc[which & 3]);
    ++which;
  });
  return ReduceAdd((acc[0] + acc[1]) + (acc[2] + acc[3]));
}

template <class T>
void NormRow(const T* x, const NormRowArgs& a, T* y) {
  const float center = a.center ? SumRow(x, a.n) / static_cast<float>(a.n) : 0.0f;
  const float mean = SquaresRow(x, center, a.n) / static_cast<float>(a.n);
  const V inverse = Set1(1.0f / __builtin_sqrtf(mean + a.eps));
  ForVectors(a.n, [&](int64_t i, int count) {
    V v = LoadUpTo(x + i, count);
    if (a.center) v = v - Set1(center);
    v = v * inverse;
    if (a.weight != nullptr) v = v * LoadUpTo(a.weight + i, count);
    if (a.bias != nullptr) v = v + LoadUpTo(a.bias + i, count);
    if (a.accumulate) v = LoadUpTo(y + i, count) + Rounded(v, y);
    if (a.scale != 1.0f) v = v * Set1(a.scale);
    StoreUpTo(y + i, v, count);
  });
}

void NormRowAny(const NormRowArgs& a) {
  if (a.bf16) {
    NormRow(static_cast<const Bf16*>(a.x), a, static_cast<Bf16*>(a.y));
  } else {
    NormRow(static_cast<const float*>(a.x), a, static_cast<float*>(a.y));
  }
}

/// RMSNorm of one head, in place; no weight: ones.
template <class T>
void NormHead(T* x, const float* weight, float eps, int64_t n) {
  const float mean = SquaresRow(x, 0.0f, n) / static_cast<float>(n);
  const V inverse = Set1(1.0f / __builtin_sqrtf(mean + eps));
  ForVectors(n, [&](int64_t i, int count) {
    V v = LoadUpTo(x + i, count) * inverse;
    if (weight != nullptr) v = v * LoadUpTo(weight + i, count);
    StoreUpTo(x + i, v, count);
  });
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
void ConvertRow(const From* x, To* y, int64_t n, float scale, bool accumulate = false) {
  ForVectors(n, [&](int64_t i, int count) {
    V v = LoadUpTo(x + i, count);
    if (scale != 1.0f) v = v * Set1(scale);
    if (accumulate) v = v + LoadUpTo(y + i, count);
    StoreUpTo(y + i, v, count);
  });
}

/// Calls put(i, codes, count) for the vectors of round(x / scale), ties to even, |codes| <= 127,
/// scale = max |x| / 127, which is returned: 0 with zeros where that is no number's inverse, NaN
/// where an x is not finite.
template <class T, class Put>
float RoundedTo(const T* x, int64_t n, const Put& put) {
  V most = Zero();
  V poison = Zero();  // NaN where an x is not finite
  ForVectors(
      n, [&](int64_t i, int count) __attribute__((always_inline)) {
        const V v = LoadUpTo(x + i, count);
        most = Max(most, Abs(v));
        poison = Fma(v, Zero(), poison);
      });
  const float amax = ReduceMax(most);
  float inverse = 127.0f / amax;
  float scale = amax / 127.0f;
  if (!(inverse <= 3.4e38f)) scale = inverse = 0.0f;
  ForVectors(
      n, [&](int64_t i, int count) __attribute__((always_inline)) {
        const V scaled = LoadUpTo(x + i, count) * Set1(inverse);
        int8_t codes[kLanes];
        StoreLowBytes(codes, ToInt(Min(Max(scaled, Set1(-127.0f)), Set1(127.0f))));
        put(i, codes, count);
      });
  return scale + ReduceAdd(poison);
}

/// The same into q [n].
template <class T>
float RoundToBytes(const T* x, int64_t n, int8_t* q) {
  return RoundedTo(
      x, n, [q](int64_t i, const int8_t* codes, int count) __attribute__((always_inline)) {
        __builtin_memcpy(q + i, codes, static_cast<size_t>(count));
      });
}

/// Writes a head's key or value where the cache has it.
template <class T, class Kv>
void CacheHead(const T* x, int64_t n, bool apart, Kv* out, float*) {
  if (!apart) return ConvertRow(x, out, n, 1.0f);
  ForVectors(n, [&](int64_t i, int count) {
    Kv lanes[kLanes];
    Store(lanes, LoadUpTo(x + i, count));
    for (int j = 0; j < count; ++j) out[(i + j) * kCacheUnit] = lanes[j];
  });
}
template <class T>
void CacheHead(const T* x, int64_t n, bool apart, int8_t* out, float* scale) {
  if (!apart) {
    *scale = RoundToBytes(x, n, out);
    return;
  }
  *scale = RoundedTo(x, n, [out](int64_t i, const int8_t* codes, int count) {
    for (int j = 0; j < count; ++j) out[(i + j) * kCacheUnit] = codes[j];
  });
}

template <class T, class Kv>
void RopeRow(const RopeRowArgs& a) {
  const int64_t dim = a.heads.head_dim;
  T* head = static_cast<T*>(a.qkv);
  for (int h = 0; h < a.heads.num_heads + a.heads.num_kv_heads; ++h, head += dim) {
    const float* norm = h < a.heads.num_heads ? a.q_norm : a.k_norm;
    if (norm != nullptr) NormHead(head, norm, a.norm_eps, dim);
    if (a.cos_sin != nullptr) Rotate(head + a.rotary_begin, a.cos_sin, a.rotary_dim / 2);
    if (a.q_scale != 1.0f && h < a.heads.num_heads) ConvertRow(head, head, dim, a.q_scale);
  }
  if (a.k_out == nullptr) return;
  const auto scale_of = [&](float* first, int h) {
    return first == nullptr ? nullptr : first + h * a.head_stride / int64_t{sizeof(float)};
  };
  const T* k = static_cast<const T*>(a.qkv) + a.heads.num_heads * dim;
  for (int h = 0; h < a.heads.num_kv_heads; ++h) {
    CacheHead(k + h * dim, dim, a.v_out != nullptr, static_cast<Kv*>(a.k_out) + h * a.head_stride,
              scale_of(a.k_scale, h));
  }
  if (a.v_out == nullptr) return;
  T* v = static_cast<T*>(a.qkv) + (a.heads.num_heads + a.heads.num_kv_heads) * dim;
  for (int h = 0; h < a.heads.num_kv_heads; ++h) {
    if (a.v_norm) NormHead(v + h * dim, nullptr, a.norm_eps, dim);
    CacheHead(v + h * dim, dim, false, static_cast<Kv*>(a.v_out) + h * a.head_stride,
              scale_of(a.v_scale, h));
  }
}

template <class T>
void RopeRowInto(const RopeRowArgs& a) {
  switch (a.kv_type) {
    case DType::kBFloat16:
      return RopeRow<T, Bf16>(a);
    case DType::kInt8:
      return RopeRow<T, int8_t>(a);
    default:
      return RopeRow<T, float>(a);
  }
}

void RopeRowAny(const RopeRowArgs& a) { a.bf16 ? RopeRowInto<Bf16>(a) : RopeRowInto<float>(a); }

inline V Activate(Activation f, V x, float limit) {
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
    case Activation::kSquaredRelu: {
      const V positive = Max(x, Zero());
      return positive * positive;
    }
    case Activation::kSigmoid:
      return Sigmoid(x);
    case Activation::kSoftCap:
      return Set1(limit) * Tanh(x / Set1(limit));
    case Activation::kClampedSwiglu:
      break;
  }
  return x;
}

template <class T>
void ActivationRow(const ActivationRowArgs& a) {
  const T* gate = static_cast<const T*>(a.gate);
  const T* up = static_cast<const T*>(a.up);
  T* y = static_cast<T*>(a.y);
  ForVectors(a.n, [&](int64_t i, int count) {
    V v = LoadUpTo(gate + i, count);
    if (a.f == Activation::kClampedSwiglu) {
      const V limit = Set1(a.limit);
      const V g = Min(v, limit);
      const V u = Max(Min(LoadUpTo(up + i, count), limit), Zero() - limit);
      v = g * Sigmoid(Set1(a.alpha) * g) * (u + Set1(1.0f));
    } else {
      v = Activate(a.f, v, a.limit);
      if (up != nullptr) v = Rounded(v, y) * LoadUpTo(up + i, count);
    }
    StoreUpTo(y + i, v, count);
  });
}

void ActivationRowAny(const ActivationRowArgs& a) {
  a.bf16 ? ActivationRow<Bf16>(a) : ActivationRow<float>(a);
}

void AddScaledRow(const float* x, float weight, int64_t n, float* y) {
  const V w = Set1(weight);
  ForVectors(n, [&](int64_t i, int count) {
    StoreUpTo(y + i, Fma(w, LoadUpTo(x + i, count), LoadUpTo(y + i, count)), count);
  });
}

template <class To>
void ConvertRowFrom(DType from, const void* x, To* y, int64_t n, float scale, bool accumulate) {
  switch (from) {
    case DType::kFloat32:
      return ConvertRow(static_cast<const float*>(x), y, n, scale, accumulate);
    case DType::kBFloat16:
      return ConvertRow(static_cast<const Bf16*>(x), y, n, scale, accumulate);
    case DType::kFloat16:
      return ConvertRow(static_cast<const Fp16*>(x), y, n, scale, accumulate);
    default:
      __builtin_trap();
  }
}

void ConvertRowAny(DType from, const void* x, bool to_bf16, void* y, int64_t n, float scale,
                   bool accumulate) {
  if (to_bf16) {
    ConvertRowFrom(from, x, static_cast<Bf16*>(y), n, scale, accumulate);
  } else {
    ConvertRowFrom(from, x, static_cast<float*>(y), n, scale, accumulate);
  }
}

/// One position of one value head of the gated delta rule: S [key_dim, value_dim] is updated, y =
/// S^T q. `delta` is scratch [value_dim].
void DeltaStep(const DeltaStepArgs& a) {
  const int64_t n = a.value_dim;
  for (int64_t i = 0; i < n; ++i) a.delta[i] = 0.0f;
  const V decay = Set1(a.decay);
  for (int64_t k = 0; k < a.key_dim; ++k) {
    float* s = a.state + k * n;
    const V key = Set1(a.k[k]);
    ForVectors(n, [&](int64_t i, int count) {
      const V decayed = LoadUpTo(s + i, count) * decay;
      StoreUpTo(s + i, decayed, count);
      StoreUpTo(a.delta + i, Fma(key, decayed, LoadUpTo(a.delta + i, count)), count);
    });
  }
  ForVectors(n, [&](int64_t i, int count) {
    const V error = LoadUpTo(a.v + i, count) - LoadUpTo(a.delta + i, count);
    StoreUpTo(a.delta + i, error * Set1(a.beta), count);
    StoreUpTo(a.y + i, Zero(), count);
  });
  for (int64_t k = 0; k < a.key_dim; ++k) {
    float* s = a.state + k * n;
    const V key = Set1(a.k[k]);
    const V query = Set1(a.q[k]);
    ForVectors(n, [&](int64_t i, int count) {
      const V next = Fma(key, LoadUpTo(a.delta + i, count), LoadUpTo(s + i, count));
      StoreUpTo(s + i, next, count);
      StoreUpTo(a.y + i, Fma(query, next, LoadUpTo(a.y + i, count)), count);
    });
  }
}

/// y[c] = silu(sum over t of window[t][c] * conv[c][t]) for one position.
void ConvStep(const float* const* window, int64_t width, const float* conv, int64_t channels,
              float* y) {
  ForVectors(channels, [&](int64_t i, int count) {
    V sum = Zero();
    for (int64_t t = 0; t < width; ++t) {
      sum = Fma(LoadUpTo(window[t] + i, count), LoadUpTo(conv + t * channels + i, count), sum);
    }
    StoreUpTo(y + i, sum * Sigmoid(sum), count);
  });
}

}  // namespace
}  // namespace penstock
