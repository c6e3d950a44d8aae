// Attention over the paged cache. Each row walks the units of 16 positions that it may see, in
// order, with a running maximum and sum (Milakov and Gimelshein 2018); what a row adds up depends
// on its own position alone. Included by kernels_avx2.cc and kernels_avx512.cc only. Owns nothing.
// Must not know tensors' owners, batches or models.
// Threads: any, on disjoint outputs.
#pragma once

#include "backend/cpu/kernels.h"
#include "backend/cpu/row_kernels.h"
#include "backend/cpu/simd.h"

namespace penstock {
namespace {

constexpr int kUnit = 16;  // positions that are summed together

/// One unit's K or V as float, [kUnit, padded], columns beyond head_dim zero.
template <class Kv>
void LoadUnit(const Kv* from, int64_t dim, int64_t padded, int count, float* to) {
  for (int t = 0; t < count; ++t) {
    ConvertRow(from + t * dim, to + t * padded, dim, 1.0f);
  }
}

/// scores[t] = q . k[t] for t in [0, kUnit).
template <class K>
inline void Scores(const float* q, const K* k, int64_t padded, float* scores) {
  for (int t = 0; t < kUnit; t += 4) {
    const K* k0 = k + t * padded;
    V s0 = Zero(), s1 = Zero(), s2 = Zero(), s3 = Zero();
    for (int64_t d = 0; d < padded; d += kLanes) {
      const V qd = Load(q + d);
      s0 = Fma(qd, Load(k0 + d), s0);
      s1 = Fma(qd, Load(k0 + padded + d), s1);
      s2 = Fma(qd, Load(k0 + 2 * padded + d), s2);
      s3 = Fma(qd, Load(k0 + 3 * padded + d), s3);
    }
    _mm_storeu_ps(scores + t, ReduceAdd4(s0, s1, s2, s3));
  }
}

/// kVectors vectors of o, as AddValues.
template <int kVectors, class K>
inline __attribute__((always_inline)) void AddValueColumns(const float* p, const K* v, int begin,
                                                           int end, int64_t padded, V alpha,
                                                           float* o) {
  V acc[kVectors];
  for (int j = 0; j < kVectors; ++j) acc[j] = Load(o + j * kLanes) * alpha;
  for (int t = begin; t < end; ++t) {
    const V pt = Set1(p[t]);
    for (int j = 0; j < kVectors; ++j) acc[j] = Fma(pt, Load(v + t * padded + j * kLanes), acc[j]);
  }
  for (int j = 0; j < kVectors; ++j) Store(o + j * kLanes, acc[j]);
}

/// o = alpha o + sum over t in [begin, end) of p[t] v[t], in the order of t
template <class K>
inline void AddValues(const float* p, const K* v, int begin, int end, int64_t padded, float alpha,
                      float* o) {
  const V va = Set1(alpha);
  int64_t d = 0;
  for (; d + 8 * kLanes <= padded; d += 8 * kLanes)
    AddValueColumns<8>(p, v + d, begin, end, padded, va, o + d);
  for (; d + 4 * kLanes <= padded; d += 4 * kLanes)
    AddValueColumns<4>(p, v + d, begin, end, padded, va, o + d);
  for (; d < padded; d += kLanes) AddValueColumns<1>(p, v + d, begin, end, padded, va, o + d);
}

/// Takes one unit into a row's running maximum, sum and output; positions [begin, end) of the unit
/// are visible.
template <class K>
inline void AddUnit(const AttentionTileArgs& a, const float* q, const K* k, const K* v,
                    int64_t padded, int begin, int end, float& maximum, float& sum, float* o) {
  alignas(64) float s[kUnit];
  Scores(q, k, padded, s);
  V best = Set1(-__builtin_inff());
  for (int i = 0; i < kUnit; i += kLanes) {
    V x = Load(s + i) * Set1(a.scale);
    if (a.soft_cap != 0.0f) x = Set1(a.soft_cap) * Tanh(x / Set1(a.soft_cap));
    Store(s + i, x);
  }
  for (int t = 0; t < kUnit; ++t) {
    if (t < begin || t >= end) s[t] = -__builtin_inff();
  }
  for (int i = 0; i < kUnit; i += kLanes) best = Max(best, Load(s + i));
  const float reached = ReduceMax(best);
  const float next = reached > maximum ? reached : maximum;
  V total = Zero();
  for (int i = 0; i < kUnit; i += kLanes) {
    const V p = Exp(Load(s + i) - Set1(next));
    Store(s + i, p);
    total = total + p;
  }
  alignas(64) float scale[kLanes];
  Store(scale, Exp(Set1(maximum - next)));
  sum = sum * scale[0] + ReduceAdd(total);
  maximum = next;
  AddValues(s, v, begin, end, padded, scale[0], o);
}

/// The tile's running state: vectors of `padded` floats, one per (row, head) pair.
struct TileState {
  int num_vectors;
  int64_t padded;
  float* k;        // [kUnit, padded]
  float* v;        // [kUnit, padded]
  float* q;        // [num_vectors, padded]
  float* o;        // [num_vectors, padded]
  float* maximum;  // [num_vectors]
  float* sum;      // [num_vectors]
};

/// Takes the unit that begins at position `base` into every pair that sees any of it.
template <class K>
void AddUnitToAll(const AttentionTileArgs& a, const TileState& s, const K* k, const K* v,
                  int base) {
  for (int i = 0; i < s.num_vectors; ++i) {
    const int position = a.position_begin + i / a.group;
    const int oldest = a.window > 0 && position >= a.window ? position - a.window + 1 : 0;
    const int begin = oldest > base ? oldest - base : 0;
    const int seen = a.visible > 0 ? a.visible : position + 1;
    const int end = seen - base < kUnit ? seen - base : kUnit;
    if (begin >= end) continue;
    AddUnit(a, s.q + i * s.padded, k, v, s.padded, begin, end, s.maximum[i], s.sum[i],
            s.o + i * s.padded);
  }
}

template <class T>
TileState StartTile(const AttentionTileArgs& a) {
  TileState s;
  s.num_vectors = a.num_rows * a.group;
  s.padded = (a.head_dim + kLanes - 1) / kLanes * kLanes;
  s.k = a.scratch;
  s.v = s.k + kUnit * s.padded;
  s.q = s.v + kUnit * s.padded;
  s.o = s.q + s.num_vectors * s.padded;
  s.maximum = s.o + s.num_vectors * s.padded;
  s.sum = s.maximum + s.num_vectors;
  for (float* p = s.k; p < s.maximum; ++p) *p = 0.0f;
  for (int i = 0; i < s.num_vectors; ++i) {
    const T* from =
        static_cast<const T*>(a.q) + (i / a.group) * a.q_stride + (i % a.group) * a.head_dim;
    ConvertRow(from, s.q + i * s.padded, a.head_dim, 1.0f);
    s.maximum[i] = -__builtin_inff();
    s.sum[i] = 0.0f;
  }
  return s;
}

template <class T>
void FinishTile(const AttentionTileArgs& a, const TileState& s) {
  for (int i = 0; i < s.num_vectors; ++i) {
    float* o = s.o + i * s.padded;
    if (a.sinks != nullptr) {  // at last, by the same rule as one more position
      const float sink = a.sinks[i % a.group];
      const float next = sink > s.maximum[i] ? sink : s.maximum[i];
      alignas(64) float e[2 * kLanes];
      Store(e, Exp(Set1(s.maximum[i] - next)));
      Store(e + kLanes, Exp(Set1(sink - next)));
      ConvertRow(o, o, s.padded, e[0]);
      s.sum[i] = s.sum[i] * e[0] + e[kLanes];
    }
    T* to = static_cast<T*>(a.y) + (i / a.group) * a.y_stride + (i % a.group) * a.head_dim;
    ConvertRow(o, to, a.head_dim, 1.0f / s.sum[i]);
  }
}

template <class T, class Kv>
void AttentionTile(const AttentionTileArgs& a) {
  constexpr int kFewVectors =
      3;  // so few widen the cache on the fly; more share one widened copy. Equal bits.
  const TileState s = StartTile<T>(a);
  const bool in_place =
      s.padded == a.head_dim && (sizeof(Kv) == sizeof(float) || s.num_vectors <= kFewVectors);
  const int last = a.visible > 0 ? a.visible - 1 : a.position_begin + a.num_rows - 1;
  const int first =
      a.window > 0 && a.position_begin >= a.window ? a.position_begin - a.window + 1 : 0;
  for (int unit = first / kUnit; unit <= last / kUnit; ++unit) {
    const int base = unit * kUnit;
    const int64_t offset =
        a.table[base / a.block_size] * a.block_stride + (base % a.block_size) * int64_t{a.head_dim};
    const Kv* keys = static_cast<const Kv*>(a.cache) + offset;
    if (in_place) {
      AddUnitToAll(a, s, keys, keys + a.kv_stride, base);
      continue;
    }
    const int count = last - base + 1 < kUnit ? last - base + 1 : kUnit;
    LoadUnit(keys, a.head_dim, s.padded, count, s.k);
    LoadUnit(keys + a.kv_stride, a.head_dim, s.padded, count, s.v);
    AddUnitToAll(a, s, static_cast<const float*>(s.k), static_cast<const float*>(s.v), base);
  }
  FinishTile<T>(a, s);
}

void AttentionTileAny(const AttentionTileArgs& a) {
  if (a.bf16) {
    a.kv_bf16 ? AttentionTile<Bf16, Bf16>(a) : AttentionTile<Bf16, float>(a);
  } else {
    a.kv_bf16 ? AttentionTile<float, Bf16>(a) : AttentionTile<float, float>(a);
  }
}

}  // namespace
}  // namespace penstock
