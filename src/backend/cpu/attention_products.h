// The two products of attention, of a few queries with units of 16 cached positions: in float32, or
// of bfloat16 where the processor multiplies it. Of any query the result is the same bits whoever
// is beside it. Included by attention_kernel.h only. Owns nothing. Must not know tiles, positions.
// Threads: any, on disjoint outputs.
#pragma once

#include "backend/cpu/kernels.h"
#include "backend/cpu/row_kernels.h"
#include "backend/cpu/simd.h"

namespace penstock {
namespace {

constexpr int kUnit = kCacheUnit;
constexpr int kUnitVectors = kUnit / kLanes;
constexpr int kTileQueries = kLanes == 16 ? 6 : 3;  // whose sums fit the registers

/// Positions [begin, end) of some, from the first one on.
struct Visible {
  int begin;
  int end;
  bool operator==(const Visible& other) const = default;
};

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

/// Queries and weights float32; keys [dim][kUnit] and values [kUnit][padded] of type Kv, widened as
/// they are read.
template <class Kv>
struct FloatProducts {
  using Number = float;
  using Cached = Kv;

  static void StoreWeights(float* to, const V (&p)[kUnitVectors]) {
    for (int j = 0; j < kUnitVectors; ++j) Store(to + j * kLanes, p[j]);
  }

  /// scores[i][t] = q[i] . k[:, t] for t in [0, kUnit), lanes over t; even and odd dimensions are
  /// summed apart and added at last.
  template <int kQueries>
  static void Scores(const float* q, int64_t padded, const Kv* k, int64_t dim, float* scores,
                     int stride) {
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
        Store(scores + i * stride + j * kLanes, sums[0][i][j] + sums[1][i][j]);
      }
    }
  }

  /// acc[i] += sum over t in `range` of p[i][t] v[t], in the order of t
  template <int kQueries, int kVectors>
  static inline __attribute__((always_inline)) void AddValues(const float* p, int stride,
                                                              const Kv* v, Visible range,
                                                              int64_t padded,
                                                              V (&acc)[kQueries][kVectors]) {
    for (int t = range.begin; t < range.end; ++t) {
      V vt[kVectors];
      for (int j = 0; j < kVectors; ++j) vt[j] = Load(v + t * padded + j * kLanes);
      for (int i = 0; i < kQueries; ++i) {
        const V pt = Set1(p[i * stride + t]);
        for (int j = 0; j < kVectors; ++j) acc[i][j] = Fma(pt, vt[j], acc[i][j]);
      }
    }
  }

  /// Values start at column d.
  static const Kv* Columns(const Kv* v, int64_t d) { return v + d; }
};

#if defined(__AVX512BF16__)

/// Everything bfloat16, in pairs that are multiplied and summed at once: keys [dim / 2][kUnit][2],
/// dim rounded up to 2; values [kUnit / 2][padded][2].
struct Bf16Products {
  using Number = Bf16;
  using Cached = Bf16;

  static V AddPairs(V acc, VBits a, VBits b) {
    return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  static VBits Pair(const Bf16* p) {
    int32_t bits;
    __builtin_memcpy(&bits, p, sizeof(bits));
    return Set1Bits(bits);
  }

  static void StoreWeights(Bf16* to, const V (&p)[kUnitVectors]) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(p[0])));
  }

  template <int kQueries>
  static void Scores(const Bf16* q, int64_t padded, const Bf16* k, int64_t dim, float* scores,
                     int stride) {
    V sums[2][kQueries];
    for (auto& half : sums) {
      for (V& sum : half) sum = Zero();
    }
    const auto add = [&](int64_t d, int half) __attribute__((always_inline)) {
      const VBits kd = LoadBits(k + d * kUnit);
      for (int i = 0; i < kQueries; ++i)
        sums[half][i] = AddPairs(sums[half][i], kd, Pair(q + i * padded + d));
    };
    int64_t d = 0;
    for (; d + 3 < dim + dim % 2; d += 4) {
      add(d, 0);
      add(d + 2, 1);
    }
    if (d < dim) add(d, 0);
    for (int i = 0; i < kQueries; ++i) Store(scores + i * stride, sums[0][i] + sums[1][i]);
  }

  /// What is seen of a pair by half is multiplied alone: the other half may be no number.
  template <int kQueries, int kVectors>
  static inline __attribute__((always_inline)) void AddValues(const Bf16* p, int stride,
                                                              const Bf16* v, Visible range,
                                                              int64_t padded,
                                                              V (&acc)[kQueries][kVectors]) {
    const auto add_one = [&](int t) __attribute__((always_inline)) {
      for (int j = 0; j < kVectors; ++j) {
        const VBits pairs = LoadBits(v + (t / 2 * padded + j * kLanes) * 2);
        const V vt = t % 2 == 0 ? LowHalves(pairs) : HighHalves(pairs);
        for (int i = 0; i < kQueries; ++i) {
          const V pt = LowHalves(Set1Bits(p[i * stride + t].bits));
          acc[i][j] = Fma(pt, vt, acc[i][j]);
        }
      }
    };
    int t = range.begin;
    if (t % 2 == 1) add_one(t++);
    for (; t + 1 < range.end; t += 2) {
      VBits vt[kVectors];
      for (int j = 0; j < kVectors; ++j) vt[j] = LoadBits(v + (t / 2 * padded + j * kLanes) * 2);
      for (int i = 0; i < kQueries; ++i) {
        const VBits pt = Pair(p + i * stride + t);
        for (int j = 0; j < kVectors; ++j) acc[i][j] = AddPairs(acc[i][j], vt[j], pt);
      }
    }
    if (t < range.end) add_one(t);
  }

  static const Bf16* Columns(const Bf16* v, int64_t d) { return v + 2 * d; }
};

/// 32 numbers as bfloat16; int8 exactly.
inline VBits LoadHalves(const Bf16* p) { return LoadBits(p); }
inline VBits LoadHalves(const int8_t* p) {
  return reinterpret_cast<VBits>(_mm512_cvtne2ps_pbh(Load(p + kLanes), Load(p)));
}
inline Bf16 ToHalf(Bf16 x) { return x; }
inline Bf16 ToHalf(int8_t x) {
  return {static_cast<uint16_t>(__builtin_bit_cast(uint32_t, static_cast<float>(x)) >> 16)};
}

/// Element i of the first 16 beside element i of the second 16.
inline VBits PairHalves(VBits both) {
  const VBits counting = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const VBits order =  // words i and 16 + i
      _mm512_add_epi32(_mm512_mullo_epi32(counting, Set1Bits(0x10001)), Set1Bits(16 << 16));
  return _mm512_permutexvar_epi16(order, both);
}

/// A unit's keys [dim][kUnit] and values [kUnit][dim] as Bf16Products has them.
template <class Kv>
void PairUnit(const Kv* keys, const Kv* values, int64_t dim, int64_t padded, Bf16* k, Bf16* v) {
  int64_t d = 0;
  for (; d + 1 < dim; d += 2)
    _mm512_storeu_si512(k + d * kUnit, PairHalves(LoadHalves(keys + d * kUnit)));
  if (d < dim) {
    for (int t = 0; t < kUnit; ++t) {
      k[d * kUnit + 2 * t] = ToHalf(keys[d * kUnit + t]);
      k[d * kUnit + 2 * t + 1] = Bf16{0};
    }
  }
  for (int t = 0; t < kUnit; t += 2) {
    const Kv* even = values + t * dim;
    const Kv* odd = even + dim;
    Bf16* to = v + t * padded;
    for (d = 0; d + 2 * kLanes <= dim; d += 2 * kLanes) {
      const VBits a = LoadHalves(even + d), b = LoadHalves(odd + d);
      _mm512_storeu_si512(to + 2 * d,
                          PairHalves(_mm512_inserti64x4(a, _mm512_castsi512_si256(b), 1)));
      _mm512_storeu_si512(to + 2 * d + 2 * kLanes, PairHalves(_mm512_shuffle_i64x2(a, b, 0xee)));
    }
    for (; d < dim; ++d) {
      to[2 * d] = ToHalf(even[d]);
      to[2 * d + 1] = ToHalf(odd[d]);
    }
  }
}

#endif

}  // namespace
}  // namespace penstock
