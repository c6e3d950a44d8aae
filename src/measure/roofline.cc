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

#include "base/cpu_features.h"

namespace penstock {
namespace {

constexpr int kLeastRuns = 20;
constexpr auto kPatience = std::chrono::milliseconds(150);  // for each limit
constexpr int kChains = 12;  // independent sums: more than latency times units
constexpr int64_t kSteps = 500'000;
constexpr size_t kStreamBytes = size_t{256} << 20;  // of a thread, far beyond any cache
constexpr size_t kLine = 8;                         // numbers of a cache line, one for each thread
constexpr size_t kPartBytes = size_t{16} << 20;     // of it, that a run reads

/// Seconds of the fastest run. They are short, so that in one of them all threads have a processor
/// also where others want them.
double Best(WorkerPool& pool, const std::function<void(int64_t)>& work) {
  using SteadyClock = std::chrono::steady_clock;
  auto best = SteadyClock::duration::max();
  const auto begin = SteadyClock::now();
  auto before = begin;
  for (int run = 0; run < kLeastRuns || before - begin < kPatience; ++run) {
    pool.ParallelFor(pool.num_threads(), work);
    const auto after = SteadyClock::now();
    best = std::min(best, after - before);
    before = after;
  }
  return std::chrono::duration<double>(best).count();
}

/// Runs of `loop` in a second, on all threads at their best: where others want the processors too, it
/// seldom is all of them that run.
double BestRate(WorkerPool& pool, void (*loop)()) {
  std::vector<double> seconds(pool.num_threads() * kLine, 1e9);
  Best(pool, [&](int64_t thread) {
    const auto begin = std::chrono::steady_clock::now();
    loop();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    double& least = seconds[thread * kLine];
    least = std::min(least, took.count());
  });
  double rate = 0;
  for (int thread = 0; thread < pool.num_threads(); ++thread) rate += 1 / seconds[thread * kLine];
  return rate;
}

using Vector256 = __m256i;
using Vector512 = __m512i;

// kSteps times an instruction on each of kChains sums (%0), with two operands (%2, %3) and a register
// between (%1). A function for each: its instructions and registers are its target's.
#define PENSTOCK_ROOF_LOOP(Name, kTarget, Vector, step)                      \
  __attribute__((target(kTarget))) void Name() {                             \
    Vector sums[kChains] = {}, a, b, between;                                \
    std::memset(&a, 0x3f, sizeof a); /* floats and bfloat16 of 0.75 */       \
    std::memset(&b, 0x3f, sizeof b);                                         \
    for (int64_t i = 0; i < kSteps; ++i) {                                   \
      _Pragma("GCC unroll 16") for (int c = 0; c < kChains; ++c) {           \
        asm volatile(step : "+v"(sums[c]), "=&v"(between) : "v"(a), "v"(b)); \
      }                                                                      \
    }                                                                        \
  }
#define PENSTOCK_WIDE "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16"
PENSTOCK_ROOF_LOOP(Floats256, "avx2,fma", Vector256, "vfmadd231ps %2, %3, %0")
PENSTOCK_ROOF_LOOP(Floats512, PENSTOCK_WIDE, Vector512, "vfmadd231ps %2, %3, %0")
PENSTOCK_ROOF_LOOP(Halves512, PENSTOCK_WIDE, Vector512, "vdpbf16ps %2, %3, %0")
PENSTOCK_ROOF_LOOP(Words256, "avx2", Vector256, "vpmaddwd %2, %3, %1\n vpaddd %1, %0, %0")
PENSTOCK_ROOF_LOOP(Words512, PENSTOCK_WIDE, Vector512, "vpmaddwd %2, %3, %1\n vpaddd %1, %0, %0")
PENSTOCK_ROOF_LOOP(Bytes256, "avx2", Vector256, "vpmaddubsw %2, %3, %1\n vpaddw %1, %0, %0")
PENSTOCK_ROOF_LOOP(Bytes512, PENSTOCK_WIDE, Vector512, "vpmaddubsw %2, %3, %1\n vpaddw %1, %0, %0")
PENSTOCK_ROOF_LOOP(DotBytes256, "avxvnni", Vector256, "%{vex%} vpdpbusd %2, %3, %0")
PENSTOCK_ROOF_LOOP(DotBytes512, PENSTOCK_WIDE, Vector512, "vpdpbusd %2, %3, %0")
#undef PENSTOCK_WIDE
#undef PENSTOCK_ROOF_LOOP

/// Reads kPartBytes as kStreams streams side by side, and asks for what lies `ahead` bytes before.
template <size_t kStreams>
int64_t ReadPart(const char* data, size_t ahead) {
  constexpr size_t kOfStream = kPartBytes / kStreams;
  __m256i sums[kStreams][4] = {};
  for (size_t i = 0; i < kOfStream; i += 128) {
    for (size_t s = 0; s < kStreams; ++s) {
      const char* const at = data + s * kOfStream + i;
      _mm_prefetch(at + ahead, _MM_HINT_T0);
      _mm_prefetch(at + ahead + 64, _MM_HINT_T0);
      for (size_t j = 0; j < 4; ++j) {
        sums[s][j] = _mm256_xor_si256(
            sums[s][j], _mm256_load_si256(reinterpret_cast<const __m256i*>(at + 32 * j)));
      }
    }
  }
  __m256i all = _mm256_setzero_si256();
  for (const auto& of_stream : sums) {
    for (const __m256i& sum : of_stream) all = _mm256_xor_si256(all, sum);
  }
  return _mm256_extract_epi64(all, 0);
}

double MeasureMemory(WorkerPool& pool) {
  const size_t bytes = kStreamBytes * pool.num_threads();
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return 0;
  ::madvise(data, bytes, MADV_HUGEPAGE);
  std::memset(data, 1, bytes);
  std::atomic<int64_t> sink{0};
  std::vector<size_t> parts(pool.num_threads() * kLine);  // that each thread has read
  double seconds = 1e9;
  // Which way is the fastest differs between processors.
  for (int64_t (*read)(const char*, size_t) : {ReadPart<1>, ReadPart<2>, ReadPart<4>}) {
    for (const size_t ahead : {size_t{0}, size_t{1024}, size_t{4096}}) {
      seconds = std::min(
          seconds, Best(pool, [&](int64_t thread) {
            const size_t part = parts[thread * kLine]++ % (kStreamBytes / kPartBytes);
            sink += read(static_cast<const char*>(data) + thread * kStreamBytes + part * kPartBytes,
                         ahead);
          }));
    }
  }
  ::munmap(data, bytes);
  return static_cast<double>(kPartBytes * pool.num_threads()) / seconds / 1e9;
}

}  // namespace

Roofline MeasureRoofline(WorkerPool& pool) {
  Roofline out;
  // `products` of an instruction, 2 operations each. Some processors are faster at half the width.
  const auto raise = [&](double& gops, bool has, int products, void (*loop)()) {
    if (!has) return;
    const double operations = 2.0 * products * kSteps * kChains;
    gops = std::max(gops, operations * BestRate(pool, loop) / 1e9);
  };
  const bool wide = CpuHasAvx512();
  raise(out.float_gops, true, 8, Floats256);
  raise(out.float_gops, wide, 16, Floats512);
  raise(out.bf16_gops, CpuHasAvx512Bf16(), 32, Halves512);
  raise(out.word_gops, true, 16, Words256);
  raise(out.word_gops, wide, 32, Words512);
  raise(out.byte_gops, true, 32, Bytes256);
  raise(out.byte_gops, wide, 64, Bytes512);
  raise(out.byte_gops, CpuHasAvxVnni(), 32, DotBytes256);
  raise(out.byte_gops, CpuHasAvx512Vnni(), 64, DotBytes512);
  out.memory_gbs = MeasureMemory(pool);
  return out;
}

double Roofline::Of(Arithmetic arithmetic) const {
  switch (arithmetic) {
    case Arithmetic::kFloat:
      return float_gops;
    case Arithmetic::kBFloat16:
      return bf16_gops;
    case Arithmetic::kWords:
      return word_gops;
    case Arithmetic::kBytes:
      return byte_gops;
  }
  return 0;
}

const char* ArithmeticName(Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::kFloat:
      return "float";
    case Arithmetic::kBFloat16:
      return "bf16";
    case Arithmetic::kWords:
      return "word";
    case Arithmetic::kBytes:
      return "byte";
  }
  return "";
}

}  // namespace penstock
