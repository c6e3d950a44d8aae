// Attention over the paged cache. Each row walks the units of 16 positions that it may see, in
// order, with a running maximum and sum (Milakov and Gimelshein 2018); what a row adds up depends
// on its own position alone. Included by kernels_avx2.cc and kernels_avx512.cc only. Owns nothing.
// Must not know tensors' owners, batches or models.
// Threads: any, on disjoint outputs.
#pragma once

#include <algorithm>
#include <type_traits>

#include "backend/cpu/kernels.h"
#include "backend/cpu/row_kernels.h"
#include "backend/cpu/simd.h"

namespace penstock {
namespace {

constexpr int kUnit = kCacheUnit;
constexpr int kUnitVectors = kUnit / kLanes;
constexpr int kTileQueries = kLanes == 16 ? 6 : 3;            // whose sums fit the registers
constexpr int kChunk = kLanes / kTileQueries * kTileQueries;  // of many whose maxima move together

/// One unit's rows as float, [count, padded], columns beyond dim left alone.
template <class Kv>
void LoadRows(const Kv* from, int64_t dim, int64_t padded, int count, float* to) {
  for (int t = 0; t < count; ++t) ConvertRow(from + t * dim, to + t * padded, dim, 1.0f);
}

/// to[d][t] = from[t][d], columns up to dim rounded up to 4: within `padded`.
void TransposeUnit(const float* from, int64_t dim, int64_t padded, float* to) {
  for (int t = 0; t < kUnit; t += 4) {
    for (int64_t d = 0; d < dim; d += 4) {
      const float* p = from + t * padded + d;
      __m128 r0 = _mm_loadu_ps(p), r1 = _mm_loadu_ps(p + padded);
      __m128 r2 = _mm_loadu_ps(p + 2 * padded), r3 = _mm_loadu_ps(p + 3 * padded);
      _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
      float* out = to + d * kUnit + t;
      _mm_storeu_ps(out, r0);
      _mm_storeu_ps(out + kUnit, r1);
      _mm_storeu_ps(out + 2 * kUnit, r2);
      _mm_storeu_ps(out + 3 * kUnit, r3);
    }
  }
}

/// scores[i][t] = q[i] . k[:, t] for t in [0, kUnit), lanes over t; even and odd dimensions are
/// summed apart and added at last.
template <int kQueries, class K>
inline void Scores(const float* q, int64_t padded, const K* k, int64_t dim, float* scores) {
  V sums[2][kQueries][kUnitVectors];
  for (auto& half : sums) {
    for (auto& of_query : half) {
      for (V& sum : of_query) sum = Zero();
    }
  }
  const auto add = [&](int64_t d, int half) __attribute__((always_inline)) {
    V kd[kUnitVectors];
    for (int j = 0; j < kUnitVectors; ++j) kd[j] = Load(k + d * kUnit + j * kLanes);
    for (int i = 0; i < kQueries; ++i) {
      const V qd = Set1(q[i * padded + d]);
      for (int j = 0; j < kUnitVectors; ++j) sums[half][i][j] = Fma(qd, kd[j], sums[half][i][j]);
    }
  };
  int64_t d = 0;
  for (; d + 1 < dim; d += 2) {
    add(d, 0);
    add(d + 1, 1);
  }
  if (d < dim) add(d, 0);
  for (int i = 0; i < kQueries; ++i) {
    for (int j = 0; j < kUnitVectors; ++j) {
      Store(scores + i * kUnit + j * kLanes, sums[0][i][j] + sums[1][i][j]);
    }
  }
}

/// kVectors vectors of each o, as AddValues.
template <int kQueries, int kVectors, class K>
inline __attribute__((always_inline)) void AddValueColumns(const float* p, const float* alpha,
                                                           const K* v, int begin, int end,
                                                           int64_t padded, float* o) {
  V acc[kQueries][kVectors];
  for (int i = 0; i < kQueries; ++i) {
    for (int j = 0; j < kVectors; ++j) {
      acc[i][j] = Load(o + i * padded + j * kLanes) * Set1(alpha[i]);
    }
  }
  for (int t = begin; t < end; ++t) {
    V vt[kVectors];
    for (int j = 0; j < kVectors; ++j) vt[j] = Load(v + t * padded + j * kLanes);
    for (int i = 0; i < kQueries; ++i) {
      const V pt = Set1(p[i * kUnit + t]);
      for (int j = 0; j < kVectors; ++j) acc[i][j] = Fma(pt, vt[j], acc[i][j]);
    }
  }
  for (int i = 0; i < kQueries; ++i) {
    for (int j = 0; j < kVectors; ++j) Store(o + i * padded + j * kLanes, acc[i][j]);
  }
}

/// o[i] = alpha[i] o[i] + sum over t in [begin, end) of p[i][t] v[t], in the order of t
template <int kQueries, class K>
inline void AddValues(const float* p, const float* alpha, const K* v, int begin, int end,
                      int64_t padded, float* o) {
  constexpr int kWide = kQueries == 1 ? 8 : 4;
  int64_t d = 0;
  for (; d + kWide * kLanes <= padded; d += kWide * kLanes)
    AddValueColumns<kQueries, kWide>(p, alpha, v + d, begin, end, padded, o + d);
  for (; d < padded; d += kLanes)
    AddValueColumns<kQueries, 1>(p, alpha, v + d, begin, end, padded, o + d);
}

/// Calls fn(number, first) for tiles of at most kMost queries of [0, count).
template <int kMost, class Fn>
inline __attribute__((always_inline)) void ForTilesFrom(int first, int count, const Fn& fn) {
  for (; first + kMost <= count; first += kMost) fn(std::integral_constant<int, kMost>(), first);
  if constexpr (kMost > 1) {
    if (first < count) ForTilesFrom<kMost - 1>(first, count, fn);
  }
}
template <class Fn>
inline __attribute__((always_inline)) void ForTiles(int count, const Fn& fn) {
  ForTilesFrom<kTileQueries>(0, count, fn);
}

/// The tile's running state: vectors of `padded` floats, one per (row, head) pair.
struct TileState {
  int num_vectors;
  int64_t padded;
  float* k;        // [padded, kUnit]
  float* v;        // [kUnit, padded]
  float* q;        // [num_vectors, padded]
  float* o;        // [num_vectors, padded]
  float* maximum;  // [num_vectors]
  float* sum;      // [num_vectors]
};

/// Positions of a unit, from its first one on.
struct Visible {
  int begin;
  int end;
  bool operator==(const Visible& other) const = default;
};

/// What pair i sees of the unit that begins at position `base`.
inline Visible VisibleTo(const AttentionTileArgs& a, int i, int base) {
  const int position = a.position_begin + i / a.group;
  const int oldest = a.window > 0 && position >= a.window ? position - a.window + 1 : 0;
  const int seen = a.visible > 0 ? a.visible : position + 1;
  return {oldest > base ? oldest - base : 0, seen - base < kUnit ? seen - base : kUnit};
}

/// The scales of one unit's codes; null where the cache has none.
struct UnitScales {
  const float* k = nullptr;  // [kUnit]
  const float* v = nullptr;
};

/// Takes one unit into the running maximum, sum and output of pairs [i, i + count), count at most
/// kLanes, which all see `range` of it.
template <class K>
void AddUnit(const AttentionTileArgs& a, const TileState& s, int i, int count, const K* k,
             const K* v, UnitScales scales, Visible range) {
  alignas(64) float scores[kLanes * kUnit];
  alignas(64) float reached[kLanes] = {};
  alignas(64) float before[kLanes] = {};
  alignas(64) float after[kLanes];
  alignas(64) float alpha[kLanes];
  ForTiles(
      count, [&](auto number, int first) __attribute__((always_inline)) {
        Scores<number()>(s.q + (i + first) * s.padded, s.padded, k, a.head_dim,
                         scores + first * kUnit);
      });
  for (int c = 0; c < count; ++c) {
    float* row = scores + c * kUnit;
    V best = Set1(-__builtin_inff());
    for (int j = 0; j < kUnit; j += kLanes) {
      V x = Load(row + j);
      if (scales.k != nullptr) x = x * Load(scales.k + j);
      x = x * Set1(a.scale);
      if (a.soft_cap != 0.0f) x = Set1(a.soft_cap) * Tanh(x / Set1(a.soft_cap));
      Store(row + j, x);
    }
    for (int t = 0; t < range.begin; ++t) row[t] = -__builtin_inff();
    for (int t = range.end; t < kUnit; ++t) row[t] = -__builtin_inff();
    for (int j = 0; j < kUnit; j += kLanes) best = Max(best, Load(row + j));
    reached[c] = ReduceMax(best);
    before[c] = s.maximum[i + c];
  }
  const V next = Max(Load(reached), Load(before));
  Store(after, next);
  Store(alpha, Exp(Load(before) - next));
  for (int c = 0; c < count; ++c) {
    float* row = scores + c * kUnit;
    V total = Zero();
    for (int j = 0; j < kUnit; j += kLanes) {
      const V p = Exp(Load(row + j) - Set1(after[c]));
      Store(row + j, scales.v == nullptr ? p : p * Load(scales.v + j));
      total = total + p;
    }
    s.sum[i + c] = s.sum[i + c] * alpha[c] + ReduceAdd(total);
    s.maximum[i + c] = after[c];
  }
  ForTiles(
      count, [&](auto number, int first) __attribute__((always_inline)) {
        AddValues<number()>(scores + first * kUnit, alpha + first, v, range.begin, range.end,
                            s.padded, s.o + (i + first) * s.padded);
      });
}

/// Takes the unit that begins at position `base` into every pair that sees any of it. Pairs go
/// together only where they see the same: what a row does not see is never multiplied by zero.
template <class K>
void AddUnitToAll(const AttentionTileArgs& a, const TileState& s, const K* k, const K* v,
                  UnitScales scales, int base) {
  for (int begin = 0, end = 0; begin < s.num_vectors; begin = end) {
    const Visible range = VisibleTo(a, begin, base);
    end = begin + a.group;
    while (end < s.num_vectors && VisibleTo(a, end, base) == range) end += a.group;
    if (range.begin >= range.end) continue;
    for (int i = begin; i < end;) {
      const int count = end - i <= kLanes ? end - i : kChunk;
      AddUnit(a, s, i, count, k, v, scales, range);
      i += count;
    }
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
  const bool latent = a.kv_stride == 0;  // rows are keys and values
  const bool in_place = !latent && s.padded == a.head_dim &&
                        (sizeof(Kv) == sizeof(float) || s.num_vectors <= kFewVectors);
  const int last = a.visible > 0 ? a.visible - 1 : a.position_begin + a.num_rows - 1;
  const int first =
      a.window > 0 && a.position_begin >= a.window ? a.position_begin - a.window + 1 : 0;
  for (int unit = first / kUnit; unit <= last / kUnit; ++unit) {
    const int base = unit * kUnit;
    const Kv* block =
        static_cast<const Kv*>(a.cache) + a.table[base / a.block_size] * a.block_stride;
    const Kv* keys = block + (base % a.block_size) * int64_t{a.head_dim};
    const Kv* values = keys + a.kv_stride;
    UnitScales scales;
    if constexpr (sizeof(Kv) == 1) {
      scales.k = reinterpret_cast<const float*>(block + a.scales_at) + base % a.block_size;
      scales.v =
          reinterpret_cast<const float*>(block + a.kv_stride + a.scales_at) + base % a.block_size;
    }
    if (in_place) {
      AddUnitToAll(a, s, keys, values, scales, base);
      continue;
    }
    const int count = last - base + 1 < kUnit ? last - base + 1 : kUnit;
    LoadRows(values, a.head_dim, s.padded, count, s.v);
    if (latent) {
      TransposeUnit(s.v, a.head_dim, s.padded, s.k);
    } else {
      ConvertRow(keys, s.k, int64_t{a.head_dim} * kUnit, 1.0f);
    }
    AddUnitToAll(a, s, static_cast<const float*>(s.k), static_cast<const float*>(s.v), scales,
                 base);
  }
  FinishTile<T>(a, s);
}

template <class T>
void AttentionTileOf(const AttentionTileArgs& a) {
  switch (a.kv_type) {
    case DType::kBFloat16:
      return AttentionTile<T, Bf16>(a);
    case DType::kInt8:
      return AttentionTile<T, int8_t>(a);
    default:
      return AttentionTile<T, float>(a);
  }
}

void AttentionTileAny(const AttentionTileArgs& a) {
  a.bf16 ? AttentionTileOf<Bf16>(a) : AttentionTileOf<float>(a);
}

}  // namespace
}  // namespace penstock
