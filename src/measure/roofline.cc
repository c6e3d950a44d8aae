#include "measure/roofline.h"

#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

namespace penstock {
namespace {

constexpr int kRuns = 7;
// Independent sums: more than latency times units. Loops over them are unrolled, so that they are
// registers.
constexpr int kChains = 10;
constexpr int64_t kSteps = 4'000'000;
constexpr size_t kStreamBytes = size_t{256} << 20;  // far beyond any cache

/// Seconds of the fastest run.
double Best(WorkerPool& pool, const std::function<void(int64_t)>& work) {
  double best = 1e9;
  for (int run = 0; run < kRuns; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    pool.ParallelFor(pool.num_threads(), work);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    best = std::min(best, took.count());
  }
  return best;
}

void MultiplyFloats(float* out) {
  __m256 sums[kChains];
#pragma GCC unroll 16
  for (int c = 0; c < kChains; ++c) sums[c] = _mm256_set1_ps(1.0f);
  const __m256 a = _mm256_set1_ps(0.999f);
  const __m256 b = _mm256_set1_ps(1e-6f);
  for (int64_t i = 0; i < kSteps; ++i) {
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) {
      sums[c] = _mm256_fmadd_ps(sums[c], a, b);
      asm volatile("" : "+x"(sums[c]));  // each stays a step of its own
    }
  }
#pragma GCC unroll 16
  for (int c = 0; c < kChains; ++c) *out += _mm256_cvtss_f32(sums[c]);
}

void MultiplyWords(int32_t* out) {
  __m256i sums[kChains];
#pragma GCC unroll 16
  for (int c = 0; c < kChains; ++c) sums[c] = _mm256_setzero_si256();
  const __m256i a = _mm256_set1_epi16(3);
  __m256i b = _mm256_set1_epi16(5);
  for (int64_t i = 0; i < kSteps; ++i) {
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) {
      asm volatile("" : "+x"(b));  // the product is not known before
      sums[c] = _mm256_add_epi32(sums[c], _mm256_madd_epi16(a, b));
      asm volatile("" : "+x"(sums[c]));
    }
  }
#pragma GCC unroll 16
  for (int c = 0; c < kChains; ++c) *out += _mm256_extract_epi32(sums[c], 0);
}

int64_t ReadStream(const char* data, size_t bytes) {
  __m256i sums[4] = {};
  for (size_t i = 0; i + 128 <= bytes; i += 128) {
    for (size_t j = 0; j < 4; ++j) {
      sums[j] = _mm256_xor_si256(
          sums[j], _mm256_load_si256(reinterpret_cast<const __m256i*>(data + i + 32 * j)));
    }
  }
  const __m256i all =
      _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3]));
  return _mm256_extract_epi64(all, 0);
}

double MeasureMemory(WorkerPool& pool) {
  const size_t bytes = kStreamBytes * pool.num_threads();
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return 0;
  ::madvise(data, bytes, MADV_HUGEPAGE);
  std::memset(data, 1, bytes);
  std::atomic<int64_t> sink{0};
  const double seconds = Best(pool, [&](int64_t thread) {
    sink += ReadStream(static_cast<const char*>(data) + thread * kStreamBytes, kStreamBytes);
  });
  ::munmap(data, bytes);
  return static_cast<double>(bytes) / seconds / 1e9;
}

}  // namespace

Roofline MeasureRoofline(WorkerPool& pool) {
  Roofline out;
  std::vector<float> floats(pool.num_threads());
  std::vector<int32_t> words(pool.num_threads());
  const double steps = static_cast<double>(kSteps) * kChains * pool.num_threads();
  out.float_gflops = steps * 16 / Best(pool, [&](int64_t t) { MultiplyFloats(&floats[t]); }) / 1e9;
  out.word_gops = steps * 32 / Best(pool, [&](int64_t t) { MultiplyWords(&words[t]); }) / 1e9;
  out.memory_gbs = MeasureMemory(pool);
  return out;
}

}  // namespace penstock
