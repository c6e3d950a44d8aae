// Sampling on a GPU or under the emulator: the tokens are those that the CPU backend draws.
#include <array>
#include <cstdio>
#include <limits>

#include "backend/cpu/philox.h"
#include "backend/cpu/sample.h"
#include "kernels/philox.h"
#include "parity/kernel_rows.h"
#include "test_seed.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

TEST(PhiloxTest, WordsAreTheCpus) {
  std::mt19937_64 random(TestSeed());
  for (int i = 0; i < 1000; ++i) {
    const auto low = static_cast<uint32_t>(random());
    const auto high = static_cast<uint32_t>(random());
    const uint64_t key = i == 0 ? 0 : random();
    const PhiloxWords words = Philox(low, high, key);
    const std::array<uint32_t, 4> cpu = Philox4x32(
        {low, high, 0, 0}, {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)});
    for (int w = 0; w < 4; ++w) ASSERT_EQ(words.words[w], cpu[w]);
  }
}

class ScanTest : public KernelRows {
 protected:
  /// A row's rules, on the host and on the device.
  struct Rules {
    SamplingParams params;
    std::vector<int32_t> counts, banned;
    std::vector<uint32_t> mask;
    std::vector<std::unique_ptr<DeviceArray<int32_t>>> ids;
    std::vector<std::unique_ptr<DeviceArray<float>>> numbers;
    std::unique_ptr<DeviceArray<uint32_t>> device_mask;
    int32_t position = 0;

    const int32_t* OnDevice(const std::vector<int32_t>& v) {
      if (v.empty()) return nullptr;
      return ids.emplace_back(std::make_unique<DeviceArray<int32_t>>(v))->data();
    }
  };

  std::vector<int32_t> SomeIds(int32_t vocab) {
    std::vector<int32_t> out(1 + Below(std::min(vocab, 12)));
    for (int32_t& id : out) id = Below(vocab);
    return out;
  }

  void Fill(Rules& rules, int32_t vocab, bool greedy, int which) {
    SamplingParams& p = rules.params;
    p.temperature = greedy ? 0.0f : 0.2f + 0.1f * Below(18);
    p.seed = (uint64_t{random_()} << 32) | random_();
    rules.position = Below(100000);
    if (which % 2 == 1) {
      p.repetition_penalty = 1.3f;
      p.presence_penalty = 0.4f;
      p.frequency_penalty = -0.2f;
      rules.counts.resize(2 * vocab);
      for (int32_t& n : rules.counts) n = std::max(0, Below(6) - 3);
    }
    if (which % 3 == 1) {
      rules.mask.resize((vocab + 31) / 32);
      for (uint32_t& word : rules.mask) word = Below(9) == 0 ? 0 : random_() & random_();
    }
    if (which % 5 == 1) {
      for (const int32_t id : SomeIds(vocab)) p.logit_bias.emplace_back(id, 5 * Normal());
      p.logit_bias.emplace_back(p.logit_bias[0].first, 1.5f);  // twice the same
    }
    if (which % 5 == 2) rules.banned = SomeIds(vocab);
    if (which % 7 == 3) {
      for (const int32_t id : SomeIds(vocab)) p.allowed_token_ids.push_back(id);
      if (which % 2 == 0) rules.banned = p.allowed_token_ids;  // nothing is left: banned gives way
    }
    if (which % 7 == 4) p.allowed_token_ids = {vocab + 5};  // none: allowed gives way
  }

  void Run(int32_t vocab, bool greedy) {
    constexpr int32_t kRows = 12;
    const int64_t stride = vocab + Below(5);
    std::vector<float> logits = Random(kRows * stride);
    for (float& v : logits) v *= 3;
    const float inf = std::numeric_limits<float>::infinity();
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (int32_t i = 0; i < vocab; ++i) {
      logits[stride + i] = nan;                           // row 1 has no number
      logits[2 * stride + i] = i % 2 == 0 ? -inf : 1.0f;  // row 2 is all ties
      if (i % 3 == 0) logits[3 * stride + i] = nan;
    }
    logits[4 * stride + Below(vocab)] = inf;
    std::vector<Rules> rules(kRows);
    std::vector<ScanRow> rows(kRows);
    std::vector<int32_t> expected;
    for (int32_t r = 0; r < kRows; ++r) {
      Rules& of = rules[r];
      Fill(of, vocab, greedy, Below(2) == 0 ? 0 : Below(70));
      const int32_t at = (r + 5) % kRows;  // rows are drawn from in any order
      SampleRow cpu;
      cpu.position = of.position;
      cpu.params = &of.params;
      cpu.prompt_output_counts = of.counts;
      cpu.banned = of.banned;
      cpu.mask = of.mask;
      expected.push_back(
          SampleToken({logits.data() + at * stride, static_cast<size_t>(vocab)}, cpu).id);
      ScanRow& row = rows[r];
      row.row = at;
      row.seed = of.params.seed;
      row.position = of.position;
      row.temperature = of.params.temperature;
      row.repetition_penalty = of.params.repetition_penalty;
      row.frequency_penalty = of.params.frequency_penalty;
      row.presence_penalty = of.params.presence_penalty;
      std::vector<int32_t> bias_ids;
      std::vector<float> bias;
      for (const auto& [id, value] : of.params.logit_bias) {
        bias_ids.push_back(id);
        bias.push_back(value);
      }
      row.num_bias = static_cast<int32_t>(bias.size());
      row.bias_ids = of.OnDevice(bias_ids);
      if (!bias.empty()) {
        row.bias = of.numbers.emplace_back(std::make_unique<DeviceArray<float>>(bias))->data();
      }
      row.num_banned = static_cast<int32_t>(of.banned.size());
      row.banned = of.OnDevice(of.banned);
      row.num_allowed = static_cast<int32_t>(of.params.allowed_token_ids.size());
      row.allowed = of.OnDevice(of.params.allowed_token_ids);
      row.counts = of.OnDevice(of.counts);
      if (!of.mask.empty()) {
        of.device_mask = std::make_unique<DeviceArray<uint32_t>>(of.mask);
        row.mask = of.device_mask->data();
      }
    }
    const int32_t parts = (vocab + kScanPart - 1) / kScanPart;
    DeviceArray<float> dl(logits);
    DeviceArray<ScanRow> dr(rows);
    DeviceArray<ScanBest> partial(static_cast<size_t>(kRows * parts * kScanRules));
    DeviceArray<int32_t> tokens(static_cast<size_t>(kRows));
    const ScanArgs a{dl.data(), stride, vocab, dr.data(), kRows, partial.data(), tokens.data()};
    ASSERT_EQ(LaunchScan(a, nullptr), cudaSuccess);
    EXPECT_EQ(tokens.Read(), expected) << "vocab " << vocab << " greedy " << greedy;
  }
};

TEST_F(ScanTest, DrawsAreTheCpus) {
  for (const int32_t vocab : {1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 1000, 4096, 4097, 9001}) {
    for (int repeat = 0; repeat < 3; ++repeat) Run(vocab, false);
  }
}

TEST_F(ScanTest, GreedyIsTheCpus) {
  for (const int32_t vocab : {1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 1000, 4096, 4097, 9001}) {
    for (int repeat = 0; repeat < 3; ++repeat) Run(vocab, true);
  }
}

}  // namespace
}  // namespace penstock::PENSTOCK_KERNELS
