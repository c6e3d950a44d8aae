// Attention over the paged cache. Each row walks the positions that it may see, in order, with a
// running maximum and sum (Milakov and Gimelshein 2018): 64 at once where it sees all of them, the
// rest by units of 16. What a row adds up depends on its own position alone. Included by
// kernels_table.h only. Owns nothing. Must not know tensors' owners, batches or models.
// Threads: any, on disjoint outputs.
#pragma once

#include <algorithm>
#include <type_traits>

#include "backend/cpu/ahead.h"
#include "backend/cpu/attention_products.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/row_kernels.h"
#include "backend/cpu/simd.h"

namespace penstock {
namespace {

constexpr float kLog2E = 1.44269504f;  // scores, and their maxima, are in units of ln 2
constexpr int kSpanUnits = kAttentionSpan / kUnit;
constexpr int kChunk = kLanes / kTileQueries * kTileQueries;  // of many whose maxima move together

/// o[i] = alpha[i] o[i] + sum over kUnits units of the values in `range` by their weights; vectors
/// [0, kVectors) of columns that begin at d.
template <class P, int kUnits, int kQueries, int kVectors>
inline __attribute__((always_inline)) void AddValueColumns(const typename P::Number* p,
                                                           const float* alpha,
                                                           const typename P::Cached* const* v,
                                                           Visible range, int64_t padded, int64_t d,
                                                           float* o) {
  V acc[kQueries][kVectors];
  for (int i = 0; i < kQueries; ++i) {
    for (int j = 0; j < kVectors; ++j) {
      acc[i][j] = Load(o + i * padded + d + j * kLanes) * Set1(alpha[i]);
    }
  }
  for (int u = 0; u < kUnits; ++u) {
    P::template AddValues<kQueries, kVectors>(p + u * kUnit, kUnits * kUnit, P::Columns(v[u], d),
                                              range, padded, acc);
  }
  for (int i = 0; i < kQueries; ++i) {
    for (int j = 0; j < kVectors; ++j) Store(o + i * padded + d + j * kLanes, acc[i][j]);
  }
}

template <class P, int kUnits, int kQueries>
inline void AddValues(const typename P::Number* p, const float* alpha,
                      const typename P::Cached* const* v, Visible range, int64_t padded, float* o) {
  constexpr int kWide = kQueries == 1 ? 8 : 4;
  int64_t d = 0;
  for (; d + kWide * kLanes <= padded; d += kWide * kLanes)
    AddValueColumns<P, kUnits, kQueries, kWide>(p, alpha, v, range, padded, d, o);
  for (; d < padded; d += kLanes)
    AddValueColumns<P, kUnits, kQueries, 1>(p, alpha, v, range, padded, d, o);
}

/// Calls fn(number, first) for tiles of [0, count), of nearly equal sizes up to kTileQueries.
template <int kMost, class Fn>
inline __attribute__((always_inline)) void ForTile(int size, int first, const Fn& fn) {
  if (size == kMost) return fn(std::integral_constant<int, kMost>(), first);
  if constexpr (kMost > 1) ForTile<kMost - 1>(size, first, fn);
}
template <class Fn>
inline __attribute__((always_inline)) void ForTiles(int count, const Fn& fn) {
  int first = 0;
  for (int left = (count + kTileQueries - 1) / kTileQueries; left > 0; --left) {
    const int size = (count - first + left - 1) / left;
    ForTile<kTileQueries>(size, first, fn);
    first += size;
  }
}

/// The tile's running state: vectors of `padded` numbers, one per (row, head) pair.
template <class P>
struct TileState {
  int num_vectors;
  int64_t padded;
  const typename P::Number* q;  // [num_vectors, padded]
  float* o;                     // [num_vectors, padded]
  float* maximum;               // [num_vectors]
  float* sum;                   // [num_vectors]
};

/// A unit of the cache as products read it; the scales of its codes, null where there are none.
template <class P>
struct Span {
  const typename P::Cached* k[kSpanUnits];
  const typename P::Cached* v[kSpanUnits];
  const float* k_scales[kSpanUnits];  // [kUnit]
  const float* v_scales[kSpanUnits];  // [kUnit]
};

/// What pair i sees of the `size` positions from `base` on.
inline Visible VisibleTo(const AttentionTileArgs& a, int i, int base, int size) {
  const int position = a.position_begin + i / a.group;
  const int oldest = a.window > 0 && position >= a.window ? position - a.window + 1 : 0;
  const int seen = a.visible > 0 ? a.visible : position + 1;
  return {oldest > base ? oldest - base : 0, seen - base < size ? seen - base : size};
}

/// Takes kUnits units into the running maximum, sum and output of pairs [i, i + count), count at most
/// kLanes. They see all of them, or `range` of the only one.
template <class P, int kUnits>
void AddUnits(const AttentionTileArgs& a, const TileState<P>& s, int i, int count,
              const Span<P>& span, int unit, Visible range) {
  constexpr int kWidth = kUnits * kUnit;
  alignas(64) float scores[kLanes * kWidth];
  alignas(64) typename P::Number weights[kLanes * kWidth];
  alignas(64) float reached[kLanes] = {};
  alignas(64) float before[kLanes] = {};
  alignas(64) float after[kLanes];
  alignas(64) float alpha[kLanes];
  ForTiles(
      count, [&](auto number, int first) __attribute__((always_inline)) {
        for (int u = 0; u < kUnits; ++u) {
          P::template Scores<number()>(s.q + (i + first) * s.padded, s.padded, span.k[unit + u],
                                       a.head_dim, scores + first * kWidth + u * kUnit, kWidth);
        }
      });
  for (int c = 0; c < count; ++c) {
    float* row = scores + c * kWidth;
    V best = Set1(-__builtin_inff());
    for (int j = 0; j < kWidth; j += kLanes) {
      V x = Load(row + j);
      const float* scales = span.k_scales[unit + j / kUnit];
      if (scales != nullptr) x = x * Load(scales + j % kUnit);
      if (a.soft_cap == 0.0f) {
        x = x * Set1(a.scale * kLog2E);
      } else {
        x = Set1(a.soft_cap * kLog2E) * Tanh(x * Set1(a.scale / a.soft_cap));
      }
      Store(row + j, x);
      best = Max(best, x);
    }
    if constexpr (kUnits == 1) {
      for (int t = 0; t < range.begin; ++t) row[t] = -__builtin_inff();
      for (int t = range.end; t < kUnit; ++t) row[t] = -__builtin_inff();
      best = Set1(-__builtin_inff());
      for (int j = 0; j < kUnit; j += kLanes) best = Max(best, Load(row + j));
    }
    reached[c] = ReduceMax(best);
    before[c] = s.maximum[i + c];
  }
  const V next = Max(Load(reached), Load(before));
  Store(after, next);
  Store(alpha, Exp2(Load(before) - next));
  for (int c = 0; c < count; ++c) {
    const float* row = scores + c * kWidth;
    V total = Zero();
    for (int u = 0; u < kUnits; ++u) {
      V p[kUnitVectors];
      for (int j = 0; j < kUnitVectors; ++j) {
        p[j] = Exp2(Load(row + u * kUnit + j * kLanes) - Set1(after[c]));
        total = total + p[j];
        const float* scales = span.v_scales[unit + u];
        if (scales != nullptr) p[j] = p[j] * Load(scales + j * kLanes);
      }
      P::StoreWeights(weights + c * kWidth + u * kUnit, p);
    }
    s.sum[i + c] = s.sum[i + c] * alpha[c] + ReduceAdd(total);
    s.maximum[i + c] = after[c];
  }
  ForTiles(
      count, [&](auto number, int first) __attribute__((always_inline)) {
        AddValues<P, kUnits, number()>(weights + first * kWidth, alpha + first, span.v + unit,
                                       range, s.padded, s.o + (i + first) * s.padded);
      });
}

template <class P, int kUnits>
void AddUnitsTo(const AttentionTileArgs& a, const TileState<P>& s, int begin, int end,
                const Span<P>& span, int unit, Visible range) {
  while (begin < end) {
    const int count = end - begin <= kLanes ? end - begin : kChunk;
    AddUnits<P, kUnits>(a, s, begin, count, span, unit, range);
    begin += count;
  }
}

/// The end of the pairs from `begin` on, whole rows, that see the same of `size` positions.
inline int EndOfAlike(const AttentionTileArgs& a, int begin, int end, int base, int size) {
  const Visible range = VisibleTo(a, begin, base, size);
  int i = begin + a.group;
  while (i < end && VisibleTo(a, i, base, size) == range) i += a.group;
  return i;
}

/// Takes the span that begins at position `base`, of which `num_units` exist, into every pair that
/// sees any of it. Pairs go together only where they see the same: what a row does not see is never
/// multiplied by zero.
template <class P>
void AddSpan(const AttentionTileArgs& a, const TileState<P>& s, const Span<P>& span, int num_units,
             int base) {
  const auto sees_all = [&](int i) {
    return VisibleTo(a, i, base, kAttentionSpan) == Visible{0, kAttentionSpan};
  };
  for (int begin = 0, end = 0; begin < s.num_vectors; begin = end) {
    const bool all = sees_all(begin);
    end = begin + a.group;
    while (end < s.num_vectors && sees_all(end) == all) end += a.group;
    if (all) {
      AddUnitsTo<P, kSpanUnits>(a, s, begin, end, span, 0, {0, kUnit});
      continue;
    }
    for (int u = 0; u < num_units; ++u) {
      for (int from = begin, to = 0; from < end; from = to) {
        to = EndOfAlike(a, from, end, base + u * kUnit, kUnit);
        const Visible range = VisibleTo(a, from, base + u * kUnit, kUnit);
        if (range.begin < range.end) AddUnitsTo<P, 1>(a, s, from, to, span, u, range);
      }
    }
  }
}

template <class P, class T>
TileState<P> StartTile(const AttentionTileArgs& a, float* scratch) {
  TileState<P> s;
  s.num_vectors = a.num_rows * a.group;
  s.padded = (a.head_dim + kLanes - 1) / kLanes * kLanes;
  const int64_t size = s.num_vectors * s.padded;
  auto* q = reinterpret_cast<typename P::Number*>(scratch);
  s.q = q;
  s.o = scratch + size;
  s.maximum = s.o + size;
  s.sum = s.maximum + s.num_vectors;
  for (int64_t i = 0; i < size; ++i) s.o[i] = 0.0f;
  for (int i = 0; i < s.num_vectors; ++i) {
    const T* from =
        static_cast<const T*>(a.q) + (i / a.group) * a.q_stride + (i % a.group) * a.head_dim;
    ConvertRow(from, q + i * s.padded, a.head_dim, 1.0f);
    for (int64_t d = a.head_dim; d < s.padded; ++d) q[i * s.padded + d] = typename P::Number{};
    s.maximum[i] = -__builtin_inff();
    s.sum[i] = 0.0f;
  }
  return s;
}

template <class P, class T>
void FinishTile(const AttentionTileArgs& a, const TileState<P>& s) {
  for (int i = 0; i < s.num_vectors; ++i) {
    float* o = s.o + i * s.padded;
    if (a.sinks != nullptr) {  // at last, by the same rule as one more position
      const float sink = a.sinks[i % a.group] * kLog2E;
      const float next = sink > s.maximum[i] ? sink : s.maximum[i];
      alignas(64) float e[2 * kLanes];
      Store(e, Exp2(Set1(s.maximum[i] - next)));
      Store(e + kLanes, Exp2(Set1(sink - next)));
      ConvertRow(o, o, s.padded, e[0]);
      s.sum[i] = s.sum[i] * e[0] + e[kLanes];
    }
    T* to = static_cast<T*>(a.y) + (i / a.group) * a.y_stride + (i % a.group) * a.head_dim;
    ConvertRow(o, to, a.head_dim, 1.0f / s.sum[i]);
  }
}

/// A unit of the cache: keys and values of type Kv, the scales of codes.
template <class Kv>
struct CachedUnit {
  const Kv* keys;
  const Kv* values;
  const float* k_scales = nullptr;
  const float* v_scales = nullptr;
};

template <class Kv>
CachedUnit<Kv> UnitAt(const AttentionTileArgs& a, int base) {
  const Kv* block = static_cast<const Kv*>(a.cache) + a.table[base / a.block_size] * a.block_stride;
  CachedUnit<Kv> unit;
  unit.keys = block + (base % a.block_size) * int64_t{a.head_dim};
  unit.values = unit.keys + a.kv_stride;
  if constexpr (sizeof(Kv) == 1) {
    const Kv* scales = block + a.scales_at;
    unit.k_scales = reinterpret_cast<const float*>(scales) + base % a.block_size;
    unit.v_scales = reinterpret_cast<const float*>(scales + a.kv_stride) + base % a.block_size;
  }
  return unit;
}

/// Asks for a unit that is read soon: blocks lie anywhere, and each is too short for the processor to
/// guess what follows. Inlined, or the compiler leaves out what seems to do nothing.
template <class Kv>
inline __attribute__((always_inline)) void FetchUnit(const AttentionTileArgs& a, int base) {
  const CachedUnit<Kv> unit = UnitAt<Kv>(a, base);
  const auto bytes = static_cast<int64_t>(kUnit * sizeof(Kv)) * a.head_dim;
  for (int64_t i = 0; i < bytes; i += kLineBytes) {
    __builtin_prefetch(reinterpret_cast<const char*>(unit.keys) + i);
    if (a.kv_stride > 0) __builtin_prefetch(reinterpret_cast<const char*>(unit.values) + i);
  }
  if constexpr (sizeof(Kv) == 1) {
    __builtin_prefetch(unit.k_scales);
    __builtin_prefetch(unit.v_scales);
  }
}

/// Walks the spans that the tile sees; read(unit, index, span) says where unit `index` of the span
/// lies.
template <class P, class T, class Kv, class Read>
void WalkSpans(const AttentionTileArgs& a, float* scratch, const Read& read) {
  const int last = (a.visible > 0 ? a.visible : a.position_begin + a.num_rows) - 1;
  const int first =
      a.window > 0 && a.position_begin >= a.window ? a.position_begin - a.window + 1 : 0;
  const int begin = first / kAttentionSpan * kAttentionSpan;
  // Of many vectors, and of float32, the products take longer than the memory.
  const bool waits = sizeof(Kv) < sizeof(float) && a.num_rows * a.group <= kLanes;
  const auto fetch = [&](int at) __attribute__((always_inline)) {
    if (waits && at <= last && at + kUnit > first) FetchUnit<Kv>(a, at);
  };
  for (int u = 0; u < kSpanUnits; ++u) fetch(begin + u * kUnit);
  const TileState<P> s = StartTile<P, T>(a, scratch);
  for (int base = begin; base <= last; base += kAttentionSpan) {
    const int num_units = std::min(kSpanUnits, (last - base) / kUnit + 1);
    Span<P> span;
    for (int u = 0; u < num_units; ++u) {
      if (base + u * kUnit + kUnit <= first) continue;  // nobody sees it, and it may be gone
      fetch(base + kAttentionSpan + u * kUnit);
      const CachedUnit<Kv> unit = UnitAt<Kv>(a, base + u * kUnit);
      span.k_scales[u] = unit.k_scales;
      span.v_scales[u] = unit.v_scales;
      read(unit, u, span);
    }
    AddSpan(a, s, span, num_units, base);
  }
  FinishTile<P, T>(a, s);
}

template <class T, class Kv>
void AttentionTile(const AttentionTileArgs& a) {
  constexpr int kFewVectors =
      3;  // so few widen the cache on the fly; more share one widened copy. Equal bits.
  const bool latent = a.kv_stride == 0;  // rows are keys and values
  const int64_t dim = a.head_dim;
  const int64_t padded = (dim + kLanes - 1) / kLanes * kLanes;
  const int64_t copied = kUnit * padded;  // floats of a unit's keys or values
  float* const k = a.scratch;
  float* const v = k + kSpanUnits * copied;
  float* const rest = v + kSpanUnits * copied;
  if (padded != dim) {  // the columns beyond dim are read
    for (int64_t i = 0; i < kSpanUnits * copied; ++i) v[i] = 0.0f;
  }
#if defined(__AVX512BF16__)
  if constexpr (!std::is_same_v<Kv, float>) {
    if (a.bf16_products && !latent) {
      return WalkSpans<Bf16Products, T, Kv>(
          a, rest, [&](const CachedUnit<Kv>& unit, int u, Span<Bf16Products>& span) {
            auto* pairs_k = reinterpret_cast<Bf16*>(k + u * copied);
            auto* pairs_v = reinterpret_cast<Bf16*>(v + u * copied);
            PairUnit(unit.keys, unit.values, dim, padded, pairs_k, pairs_v);
            span.k[u] = pairs_k;
            span.v[u] = pairs_v;
          });
    }
  }
#endif
  if (!latent && padded == dim &&
      (sizeof(Kv) == sizeof(float) || a.num_rows * a.group <= kFewVectors)) {
    return WalkSpans<FloatProducts<Kv>, T, Kv>(
        a, rest, [](const CachedUnit<Kv>& unit, int u, Span<FloatProducts<Kv>>& span) {
          span.k[u] = unit.keys;
          span.v[u] = unit.values;
        });
  }
  WalkSpans<FloatProducts<float>, T, Kv>(
      a, rest, [&](const CachedUnit<Kv>& unit, int u, Span<FloatProducts<float>>& span) {
        float* keys = k + u * copied;
        float* values = v + u * copied;
        for (int t = 0; t < kUnit; ++t)
          ConvertRow(unit.values + t * dim, values + t * padded, dim, 1.0f);
        if (latent) {
          TransposeUnit(values, dim, padded, keys);
        } else {
          ConvertRow(unit.keys, keys, dim * kUnit, 1.0f);
        }
        span.k[u] = keys;
        span.v[u] = values;
      });
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
