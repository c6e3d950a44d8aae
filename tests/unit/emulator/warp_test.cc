// What lanes compute together, against plain arithmetic; and that correct kernels give equal bits in
// any order. Compiled for a GPU as well, where it says whether the emulator's maps are the hardware's.
#include <bit>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "base/half.h"
#include "gtest/gtest.h"
#include "kernels/launch.cuh"
#include "parity/device_array.h"
#include "test_seed.h"
#include "unit/emulator/planted.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

class Warp : public testing::TestWithParam<uint64_t> {
 protected:
  void SetUp() override {
    random_.seed(static_cast<uint32_t>(TestSeed()));
    StartOnDevice(GetParam());
  }
  void TearDown() override {
    if (IsSkipped()) return;
    EXPECT_EQ(DeviceFault(), "");
  }

  template <class... Parameters>
  void RunOneWarp(void (*kernel)(Parameters...), std::type_identity_t<Parameters>... arguments) {
    ASSERT_EQ(Launch({"lanes", dim3(1), dim3(32), 0, nullptr}, kernel, arguments...), cudaSuccess);
  }
  std::vector<uint16_t> Halves(size_t n, bool bf16) {
    std::normal_distribution<float> normal;
    std::vector<uint16_t> out(n);
    for (uint16_t& h : out) {
      const float v = normal(random_);
      h = bf16 ? FloatToBf16(v) : FloatToFp16(v);
    }
    return out;
  }

  std::mt19937 random_;
};

TEST_P(Warp, MmaOfHalvesIsTheProduct) {
  for (const bool bf16 : {true, false}) {
    const std::vector<uint16_t> a = Halves(16 * 16, bf16);
    const std::vector<uint16_t> b = Halves(16 * 8, bf16);  // [k, n]
    std::vector<float> c(16 * 8);
    for (float& v : c) v = std::normal_distribution<float>()(random_);
    DeviceArray<uint16_t> da(a), db(b);
    DeviceArray<float> dd(c);
    RunOneWarp(MultiplyHalves, da.data(), db.data(), dd.data(), bf16);
    const std::vector<float> d = dd.Read();
    const auto number = [&](uint16_t h) -> double {
      return bf16 ? Bf16ToFloat(h) : Fp16ToFloat(h);
    };
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < 8; ++j) {
        double sum = c[i * 8 + j];
        for (int k = 0; k < 16; ++k) sum += number(a[i * 16 + k]) * number(b[k * 8 + j]);
        ASSERT_NEAR(d[i * 8 + j], sum, 1e-5) << i << ", " << j;
      }
    }
  }
}

TEST_P(Warp, MmaOfBytesIsTheProduct) {
  std::vector<int8_t> a(16 * 32), b(32 * 8);
  std::vector<int32_t> c(16 * 8);
  for (int8_t& v : a) v = static_cast<int8_t>(random_());
  for (int8_t& v : b) v = static_cast<int8_t>(random_());
  for (int32_t& v : c) v = static_cast<int32_t>(random_() % 1000000) - 500000;
  DeviceArray<int8_t> da(a), db(b);
  DeviceArray<int32_t> dd(c);
  RunOneWarp(MultiplyBytes, da.data(), db.data(), dd.data());
  const std::vector<int32_t> d = dd.Read();
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      int32_t sum = c[i * 8 + j];
      for (int k = 0; k < 32; ++k) sum += a[i * 32 + k] * b[k * 8 + j];
      ASSERT_EQ(d[i * 8 + j], sum) << i << ", " << j;
    }
  }
}

TEST_P(Warp, LoadedMatricesAreWhereTheMapSays) {
  std::vector<uint16_t> elements(4 * 64);
  for (uint16_t& v : elements) v = static_cast<uint16_t>(random_());
  DeviceArray<uint16_t> from(elements);
  for (const int count : {1, 2, 4}) {
    for (const bool transposed : {false, true}) {
      DeviceArray<uint32_t> to(32 * count);
      RunOneWarp(LoadsMatrices, from.data(), to.data(), count, transposed);
      const std::vector<uint32_t> got = to.Read();
      for (int lane = 0; lane < 32; ++lane) {
        for (int m = 0; m < count; ++m) {
          for (int e = 0; e < 2; ++e) {
            const int major = lane / 4;
            const int minor = lane % 4 * 2 + e;
            const int at = m * 64 + (transposed ? minor * 8 + major : major * 8 + minor);
            ASSERT_EQ(got[lane * count + m] >> 16 * e & 0xffff, elements[at]);
          }
        }
      }
    }
  }
}

TEST_P(Warp, ShufflesMoveWhatTheyShould) {
  std::vector<float> values(32);
  for (float& v : values) v = std::normal_distribution<float>()(random_);
  DeviceArray<float> from(values);
  for (const int width : {32, 8, 4}) {
    for (const int by : {0, 1, 2, 3, 5, 7, 16}) {
      DeviceArray<float> to(4 * 32);
      RunOneWarp(Shuffles, from.data(), to.data(), by, width);
      const std::vector<float> got = to.Read();
      for (int lane = 0; lane < 32; ++lane) {
        const int begin = lane / width * width;
        const int within = lane % width;
        ASSERT_EQ(got[lane], values[begin + by % width]);
        const int flipped = lane ^ by;
        ASSERT_EQ(got[32 + lane], values[flipped < begin + width ? flipped : lane]);
        ASSERT_EQ(got[64 + lane], values[within + by < width ? lane + by : lane]);
        ASSERT_EQ(got[96 + lane], values[within - by >= 0 ? lane - by : lane]);
      }
    }
  }
}

TEST_P(Warp, VotesOfAllAndOfSome) {
  const uint32_t wanted = random_();
  const uint32_t some = random_() | 1;  // lanes that take part in the second vote
  DeviceArray<uint32_t> to(2 * 32);
  RunOneWarp(Votes, to.data(), wanted, some);
  const std::vector<uint32_t> got = to.Read();
  for (int lane = 0; lane < 32; ++lane) {
    ASSERT_EQ(got[lane], wanted);
    const bool part = (some >> lane & 1) != 0;
    const uint32_t any = (wanted & some) != 0 ? 1 : 0;
    const uint32_t all = (wanted & some) == some ? 2 : 0;
    ASSERT_EQ(got[32 + lane], part ? any + all : 4);
  }
}

TEST_P(Warp, AtomicsCountEveryThread) {
  DeviceArray<int32_t> count(std::vector<int32_t>(2));
  ASSERT_EQ(Launch({"count", dim3(7), dim3(96), 0, nullptr}, Counts, count.data()), cudaSuccess);
  EXPECT_EQ(count.Read()[0], 7 * 96);
  EXPECT_EQ(count.Read()[1], 6 * 96 + 95);
}

TEST_P(Warp, NamedBarriersOrderProducersAndConsumers) {
  DeviceArray<int32_t> out(std::vector<int32_t>(64));
  ASSERT_EQ(Launch({"pipeline", dim3(1), dim3(128), 0, nullptr}, Pipelines, out.data()),
            cudaSuccess);
  const std::vector<int32_t> got = out.Read();
  for (int i = 0; i < 64; ++i) {
    int32_t sum = 0;
    for (int step = 0; step < 5; ++step) sum += (step + 1) * (63 - i);
    ASSERT_EQ(got[i], sum);
  }
}

/// A block's sum by shuffles and shared memory does not depend on the order of blocks and warps.
TEST(GridOrder, CorrectKernelGivesEqualBitsForEverySeed) {
  std::mt19937 random(static_cast<uint32_t>(TestSeed()));
  std::vector<float> in(33 * 256);
  for (float& v : in) v = std::normal_distribution<float>()(random);
  std::vector<float> first;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    StartOnDevice(seed);
    if (testing::Test::IsSkipped()) return;
    DeviceArray<float> from(in), to(33);
    ASSERT_EQ(Launch({"sums", dim3(33), dim3(256), 0, nullptr}, SumsBlocks, from.data(), to.data()),
              cudaSuccess)
        << DeviceFault();
    const std::vector<float> got = to.Read();
    if (seed == 0) {
      first = got;
      for (int b = 0; b < 33; ++b) {
        const double sum = std::accumulate(in.begin() + b * 256, in.begin() + (b + 1) * 256, 0.0);
        ASSERT_NEAR(got[b], sum, 1e-3);
      }
    }
    for (int b = 0; b < 33; ++b) {
      ASSERT_EQ(std::bit_cast<uint32_t>(got[b]), std::bit_cast<uint32_t>(first[b]));
    }
  }
}

/// The last block to come sees what all others wrote.
TEST(GridOrder, LastBlockSumsWhatTheOthersWrote) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    StartOnDevice(seed);
    if (testing::Test::IsSkipped()) return;
    DeviceArray<int32_t> partial(16), out(1), arrived(std::vector<int32_t>(1));
    ASSERT_EQ(Launch({"last", dim3(16), dim3(32), 0, nullptr}, LastBlockSums, partial.data(),
                     arrived.data(), out.data()),
              cudaSuccess)
        << DeviceFault();
    EXPECT_EQ(out.Read()[0], 16 * 17 / 2);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, Warp, testing::Values(1, 2, 3, 20261128));

}  // namespace
}  // namespace penstock::PENSTOCK_KERNELS
