// The vector type of the file that includes this, and its operations: 8 lanes (AVX2) or 16
// (AVX-512).
// Owns nothing. Everything is in an unnamed namespace, and no std template is used by the kernels:
// a function merged by the linker could bring the instructions of one file into the other. Must not
// know models or batches.
// Threads: n/a.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace penstock {
namespace {

struct Bf16 {
  uint16_t bits;
};
struct Fp16 {
  uint16_t bits;
};

#if defined(__AVX512F__)
using V = __m512;
using VBits = __m512i;
constexpr int kLanes = 16;
inline V Zero() { return _mm512_setzero_ps(); }
inline V Set1(float x) { return _mm512_set1_ps(x); }
inline V Load(const float* p) { return _mm512_loadu_ps(p); }
inline void Store(float* p, V v) { _mm512_storeu_ps(p, v); }
inline V Fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
inline V Max(V a, V b) { return _mm512_max_ps(a, b); }
inline V Min(V a, V b) { return _mm512_min_ps(a, b); }
inline V Round(V a) { return _mm512_roundscale_ps(a, 8); }
inline V Pow2(V n) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
/// a 2^n, n at least -126.
inline V TimesPow2(V a, V n) { return _mm512_scalef_ps(a, n); }
/// a where x >= limit, else 0.
inline V KeepWhereAtLeast(V a, V x, V limit) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_GE_OQ), a);
}
inline VBits LoadBits(const void* p) { return _mm512_loadu_si512(p); }
inline void StoreBits(void* p, VBits v) { _mm512_storeu_si512(p, v); }
/// A byte a lane.
inline VBits LoadBytes(const uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline VBits Set1Bits(int32_t x) { return _mm512_set1_epi32(x); }
inline VBits And(VBits a, VBits b) { return _mm512_and_si512(a, b); }
inline VBits ShiftRight(VBits v, int bits) { return _mm512_srl_epi32(v, _mm_cvtsi32_si128(bits)); }
inline VBits Add32(VBits a, VBits b) { return _mm512_add_epi32(a, b); }
inline VBits Add16(VBits a, VBits b) { return _mm512_add_epi16(a, b); }
/// The high byte of each 16 bits.
inline VBits HighBytes(VBits v) { return _mm512_srli_epi16(v, 8); }
/// Sums of two products of unsigned bytes of a and signed bytes of b, in 16 bits.
inline VBits MultiplyPairs8(VBits a, VBits b) { return _mm512_maddubs_epi16(a, b); }
inline VBits MultiplyPairs16(VBits a, VBits b) { return _mm512_madd_epi16(a, b); }
/// Nearest integers, ties to even.
inline VBits ToInt(V v) { return _mm512_cvtps_epi32(v); }
/// The low byte of each lane.
inline void StoreLowBytes(int8_t* p, VBits v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v));
}
inline V Abs(V v) { return _mm512_abs_ps(v); }
inline V ToFloat(VBits v) { return _mm512_cvtepi32_ps(v); }
/// 2^(v - 127), v in [1, 254].
inline V PowersOfTwo(VBits v) { return _mm512_castsi512_ps(_mm512_slli_epi32(v, 23)); }
inline V Pick16(const float* table, VBits i) {
  return _mm512_permutexvar_ps(i, _mm512_loadu_ps(table));
}
inline V Gather(const float* table, VBits i) { return _mm512_i32gather_ps(i, table, 4); }
inline V LowHalves(VBits v) { return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16)); }
inline V HighHalves(VBits v) {
  return _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}
inline V Load(const Bf16* p) {
  const auto h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
inline V Load(const int8_t* p) {
  return _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline V Load(const Fp16* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline V RoundToBf16(V v) {
  const VBits u = _mm512_castps_si512(v);
  const VBits odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const VBits rounded = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const VBits nan = _mm512_or_si512(u, _mm512_set1_epi32(0x400000));
  const __mmask16 is_nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_mask_mov_epi32(rounded, is_nan, nan),
                                              _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}
inline void Store(Bf16* p, V v) {
  const VBits u = _mm512_srli_epi32(_mm512_castps_si512(RoundToBf16(v)), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(u));
}
inline __m256 Fold(V v) {
  return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
}
inline __m256 FoldMax(V v) {
  return _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
}
#else
using V = __m256;
using VBits = __m256i;
constexpr int kLanes = 8;
inline V Zero() { return _mm256_setzero_ps(); }
inline V Set1(float x) { return _mm256_set1_ps(x); }
inline V Load(const float* p) { return _mm256_loadu_ps(p); }
inline void Store(float* p, V v) { _mm256_storeu_ps(p, v); }
inline V Fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
inline V Max(V a, V b) { return _mm256_max_ps(a, b); }
inline V Min(V a, V b) { return _mm256_min_ps(a, b); }
inline V Round(V a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline V Pow2(V n) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
inline V TimesPow2(V a, V n) { return a * Pow2(n); }
inline V KeepWhereAtLeast(V a, V x, V limit) {
  return _mm256_and_ps(_mm256_cmp_ps(x, limit, _CMP_GE_OQ), a);
}
inline VBits LoadBits(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void StoreBits(void* p, VBits v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
inline VBits LoadBytes(const uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
inline VBits Set1Bits(int32_t x) { return _mm256_set1_epi32(x); }
inline VBits And(VBits a, VBits b) { return _mm256_and_si256(a, b); }
inline VBits ShiftRight(VBits v, int bits) { return _mm256_srl_epi32(v, _mm_cvtsi32_si128(bits)); }
inline VBits Add32(VBits a, VBits b) { return _mm256_add_epi32(a, b); }
inline VBits Add16(VBits a, VBits b) { return _mm256_add_epi16(a, b); }
inline VBits HighBytes(VBits v) { return _mm256_srli_epi16(v, 8); }
inline VBits MultiplyPairs8(VBits a, VBits b) { return _mm256_maddubs_epi16(a, b); }
inline VBits MultiplyPairs16(VBits a, VBits b) { return _mm256_madd_epi16(a, b); }
inline VBits ToInt(V v) { return _mm256_cvtps_epi32(v); }
inline void StoreLowBytes(int8_t* p, VBits v) {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}
inline V Abs(V v) { return _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff))); }
inline V ToFloat(VBits v) { return _mm256_cvtepi32_ps(v); }
inline V PowersOfTwo(VBits v) { return _mm256_castsi256_ps(_mm256_slli_epi32(v, 23)); }
inline V Pick16(const float* table, VBits i) {
  const V low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), i);
  const V high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), i);
  return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(i, 28)));
}
inline V Gather(const float* table, VBits i) { return _mm256_i32gather_ps(table, i, 4); }
inline V LowHalves(VBits v) { return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16)); }
inline V HighHalves(VBits v) {
  return _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}
inline V Load(const Bf16* p) {
  const auto h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
inline V Load(const int8_t* p) {
  return _mm256_cvtepi32_ps(
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline V Load(const Fp16* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline V RoundToBf16(V v) {
  const VBits u = _mm256_castps_si256(v);
  const VBits odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const VBits rounded = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const VBits nan = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
  const V is_nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
  const V chosen = _mm256_blendv_ps(_mm256_castsi256_ps(rounded), _mm256_castsi256_ps(nan), is_nan);
  return _mm256_and_ps(chosen,
                       _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}
inline void Store(Bf16* p, V v) {
  const VBits u = _mm256_srli_epi32(_mm256_castps_si256(RoundToBf16(v)), 16);
  const __m128i packed =
      _mm_packus_epi32(_mm256_castsi256_si128(u), _mm256_extracti128_si256(u, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), packed);
}
inline __m256 Fold(V v) { return v; }
inline __m256 FoldMax(V v) { return v; }
#endif

/// The sums of four vectors, each in one fixed tree.
inline __m128 ReduceAdd4(V a, V b, V c, V d) {
  const __m256 ab = _mm256_hadd_ps(Fold(a), Fold(b));
  const __m256 cd = _mm256_hadd_ps(Fold(c), Fold(d));
  const __m256 s = _mm256_hadd_ps(ab, cd);
  return _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
}
inline float ReduceAdd(V v) { return _mm_cvtss_f32(ReduceAdd4(v, v, v, v)); }
inline float ReduceMax(V v) {
  const __m256 f = FoldMax(v);
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(f), _mm256_extractf128_ps(f, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

/// e^x to about 2 units in the last place; 0 below -87.3, clamped above 88.3.
inline V Exp(V x) {
  const V lowest = Set1(-87.3f);
  const V c = Min(Max(x, lowest), Set1(88.3f));
  const V n = Round(c * Set1(1.44269504f));
  V r = Fma(n, Set1(-0.693359375f), c);
  r = Fma(n, Set1(2.12194440e-4f), r);
  V p = Set1(1.0f / 5040);
  p = Fma(p, r, Set1(1.0f / 720));
  p = Fma(p, r, Set1(1.0f / 120));
  p = Fma(p, r, Set1(1.0f / 24));
  p = Fma(p, r, Set1(1.0f / 6));
  p = Fma(p, r, Set1(0.5f));
  p = Fma(p, r, Set1(1.0f));
  p = Fma(p, r, Set1(1.0f));
  return KeepWhereAtLeast(p * Pow2(n), x, lowest);
}
/// 2^x for x at most 0, relative error about 1e-7; below -126 as -126. For maxima subtracted.
inline V Exp2(V x) {
  const V c = Max(x, Set1(-126.0f));
  const V n = Round(c);
  const V r = c - n;
  V p = Set1(1.54035304e-4f);
  p = Fma(p, r, Set1(1.33335581e-3f));
  p = Fma(p, r, Set1(9.61812911e-3f));
  p = Fma(p, r, Set1(5.55041087e-2f));
  p = Fma(p, r, Set1(2.40226507e-1f));
  p = Fma(p, r, Set1(6.93147181e-1f));
  p = Fma(p, r, Set1(1.0f));
  return TimesPow2(p, n);
}
inline V Sigmoid(V x) { return Set1(1.0f) / (Set1(1.0f) + Exp(Zero() - x)); }
inline V Tanh(V x) { return Fma(Set1(2.0f), Sigmoid(x + x), Set1(-1.0f)); }

/// count < kLanes elements, the rest zero.
template <class T>
inline V LoadPart(const T* p, int64_t count) {
  T tmp[kLanes] = {};
  __builtin_memcpy(tmp, p, static_cast<size_t>(count) * sizeof(T));
  return Load(tmp);
}
template <class T>
inline void StorePart(T* p, V v, int64_t count) {
  T tmp[kLanes];
  Store(tmp, v);
  __builtin_memcpy(p, tmp, static_cast<size_t>(count) * sizeof(T));
}
/// Calls fn(index, count) for each vector of [0, n); count < kLanes for the last where n is no
/// multiple.
template <class Fn>
inline __attribute__((always_inline)) void ForVectors(int64_t n, const Fn& fn) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) fn(i, kLanes);
  if (i < n) fn(i, static_cast<int>(n - i));
}
template <class T>
inline V LoadUpTo(const T* p, int count) {
  return count == kLanes ? Load(p) : LoadPart(p, count);
}
template <class T>
inline void StoreUpTo(T* p, V v, int count) {
  if (count == kLanes) {
    Store(p, v);
  } else {
    StorePart(p, v, count);
  }
}
/// What a T holds after storing v.
inline V Rounded(V v, const float*) { return v; }
inline V Rounded(V v, const Bf16*) { return RoundToBf16(v); }

}  // namespace
}  // namespace penstock
