// Attention over the paged cache. Each row walks the units of 16 positions that it may see, in order, with a running
// maximum and sum (Milakov and Gimelshein 2018); what a row adds up depends on its own position alone.
// Included by kernels_avx2.cc and kernels_avx512.cc only. Owns nothing.
// Threads: any, on disjoint outputs.
#pragma once

#include "backend/cpu/kernels.h"
#include "backend/cpu/row_kernels.h"
#include "backend/cpu/simd.h"

namespace penstock {
namespace {

constexpr int kUnit = 16;   // positions that are summed together

/// One unit's K or V as float, [kUnit, padded], columns beyond head_dim zero.
template <class Kv>
void LoadUnit(const Kv* from, int64_t dim, int64_t padded, int count, float* to) {
  for (int t = 0; t < count; ++t) {
    ConvertRow(from + t * dim, to + t * padded, dim, 1.0f);
  }
}

/// scores[t] = q . k[t] for t in [0, kUnit).
inline void Scores(const float* q, const float* k, int64_t padded, float* scores) {
  for (int t = 0; t < kUnit; t += 4) {
    const float* k0 = k + t * padded;
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

/// o = alpha o + sum over t in [begin, end) of p[t] v[t]
inline void AddValues(const float* p, const float* v, int begin, int end, int64_t padded, float alpha, float* o) {
  const V va = Set1(alpha);
  for (int64_t d = 0; d < padded; d += kLanes) {
    V acc = Load(o + d) * va;
    for (int t = begin; t < end; ++t) acc = Fma(Set1(p[t]), Load(v + t * padded + d), acc);
    Store(o + d, acc);
  }
}

/// Takes one unit into a row's running maximum, sum and output; positions [begin, end) of the unit are visible.
inline void AddUnit(const AttentionTileArgs& a, const float* q, const float* k, const float* v, int64_t padded,
                    int begin, int end, float& maximum, float& sum, float* o) {
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

template <class T, class Kv>
void AttentionTile(const AttentionTileArgs& a) {
  const int64_t padded = (a.head_dim + kLanes - 1) / kLanes * kLanes;
  const int num_vectors = a.num_rows * a.group;   // (row, head) pairs
  float* k = a.scratch;
  float* v = k + kUnit * padded;
  float* q = v + kUnit * padded;
  float* o = q + num_vectors * padded;
  float* maximum = o + num_vectors * padded;
  float* sum = maximum + num_vectors;
  for (int64_t i = 0; i < 2 * kUnit * padded; ++i) k[i] = 0.0f;
  for (int64_t i = 0; i < 2 * num_vectors * padded; ++i) q[i] = 0.0f;
  for (int i = 0; i < num_vectors; ++i) {
    const T* from = static_cast<const T*>(a.q) + (i / a.group) * a.q_stride + (i % a.group) * a.head_dim;
    ConvertRow(from, q + i * padded, a.head_dim, 1.0f);
    maximum[i] = -__builtin_inff();
    sum[i] = 0.0f;
  }
  const int last = a.position_begin + a.num_rows - 1;
  const int first = a.window > 0 && a.position_begin >= a.window ? a.position_begin - a.window + 1 : 0;
  for (int unit = first / kUnit; unit <= last / kUnit; ++unit) {
    const int base = unit * kUnit;
    const int64_t offset = a.table[base / a.block_size] * a.block_stride + (base % a.block_size) * int64_t{a.head_dim};
    const Kv* keys = static_cast<const Kv*>(a.cache) + offset;
    const int count = last - base + 1 < kUnit ? last - base + 1 : kUnit;
    LoadUnit(keys, a.head_dim, padded, count, k);
    LoadUnit(keys + a.kv_stride, a.head_dim, padded, count, v);
    for (int i = 0; i < num_vectors; ++i) {
      const int position = a.position_begin + i / a.group;
      const int oldest = a.window > 0 && position >= a.window ? position - a.window + 1 : 0;
      const int begin = oldest > base ? oldest - base : 0;
      const int end = position - base + 1 < kUnit ? position - base + 1 : kUnit;
      if (begin >= end) continue;
      AddUnit(a, q + i * padded, k, v, padded, begin, end, maximum[i], sum[i], o + i * padded);
    }
  }
  for (int i = 0; i < num_vectors; ++i) {
    if (a.sinks != nullptr) {   // at last, by the same rule as one more position
      const float sink = a.sinks[i % a.group];
      const float next = sink > maximum[i] ? sink : maximum[i];
      alignas(64) float e[2 * kLanes];
      Store(e, Exp(Set1(maximum[i] - next)));
      Store(e + kLanes, Exp(Set1(sink - next)));
      ConvertRow(o + i * padded, o + i * padded, padded, e[0]);
      sum[i] = sum[i] * e[0] + e[kLanes];
    }
    T* to = static_cast<T*>(a.y) + (i / a.group) * a.y_stride + (i % a.group) * a.head_dim;
    ConvertRow(o + i * padded, to, a.head_dim, 1.0f / sum[i]);
  }
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
