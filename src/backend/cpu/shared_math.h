// Functions of sampling and routing whose every rounding both backends share: kernels/scalar.cuh and
// kernels/sample.cuh have the GPU's, and tests hold one to the other. No choice depends on a library.
// Owns nothing. Must not know requests.
// Threads: value.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace penstock {

/// The natural logarithm of a normal positive number, to about 1 unit in the last place: of 1 + f,
/// |f| < 0.42, f - f^2 / 2 + f^3 p(f).
inline float SharedLog(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const int exponent = static_cast<int32_t>(bits - 0x3f3504f3) >> 23;  // from the root of 1/2 on
  const float f = std::bit_cast<float>(bits - (static_cast<uint32_t>(exponent) << 23)) - 1.0f;
  float p = 0.0697161147f;
  for (const float c : {-0.114797338f, 0.116854199f, -0.124256873f, 0.142490576f, -0.166678023f,
                        0.200007157f, -0.24999997f, 0.333333312f}) {
    p = __builtin_fmaf(p, f, c);
  }
  const float square = f * f;
  const auto n = static_cast<float>(exponent);
  const float curve = __builtin_fmaf(square * f, p, n * -2.12194440e-4f);
  return __builtin_fmaf(n, 0.693359375f, f + __builtin_fmaf(-0.5f, square, curve));
}

/// e^x to about 2 units in the last place; 0 below -87.3, clamped above 88.3.
inline float SharedExp(float x) {
  constexpr float kLowest = -87.3f;
  if (!(x >= kLowest)) return 0.0f;
  x = std::min(x, 88.3f);
  const float n = __builtin_rintf(x * 1.44269504f);
  float r = __builtin_fmaf(n, -0.693359375f, x);
  r = __builtin_fmaf(n, 2.12194440e-4f, r);
  float p = 1.0f / 5040;
  for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
    p = __builtin_fmaf(p, r, c);
  }
  return p * std::bit_cast<float>(static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23);
}

/// Standard Gumbel noise of a random word: -log(-log(1 - u)), u its place in (0, 1).
inline float SampleNoise(uint32_t word) {
  const float u = std::min((static_cast<float>(word) + 0.5f) * 0x1p-32f, 1.0f - 0x1p-24f);
  const float rest = 1.0f - u;
  const float lost = u - (1.0f - rest);  // to the rounding of `rest`
  return -SharedLog(lost - SharedLog(rest));
}

/// e^(x - best), the share of a candidate, as an integer: sums of such do not depend on their order.
/// Room for the sum of 2^19 of them.
inline uint64_t SampleMass(float x, float best) {
  const float below = x - best;
  if (!(below < 0.0f)) return uint64_t{1} << 44;
  return static_cast<uint64_t>(static_cast<int64_t>(SharedExp(below) * 0x1p44f));
}

/// The mass of which top_p wants the most likely candidates; at least one is kept.
inline uint64_t WantedMass(float top_p, uint64_t total) {
  return std::max<uint64_t>(
      1, static_cast<uint64_t>(static_cast<double>(top_p) * static_cast<double>(total)));
}

}  // namespace penstock
