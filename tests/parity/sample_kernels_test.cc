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

enum class Way { kGreedy, kScan, kFilter };

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

  void FillFilter(SamplingParams& p, int32_t vocab) {
    const int which = 1 + Below(7);
    if (which & 1) p.top_k = Below(5) == 0 ? vocab - Below(2) : 1 + Below(60);
    if (which & 2) p.top_p = Below(5) == 0 ? 0.9999f : 0.05f + 0.05f * Below(19);
    if (which & 4) p.min_p = Below(5) == 0 ? 1.0f : 0.002f * (1 + Below(80));
  }

  void Fill(Rules& rules, int32_t vocab, Way way, int which) {
    SamplingParams& p = rules.params;
    p.temperature = way == Way::kGreedy ? 0.0f : 0.2f + 0.1f * Below(18);
    if (way == Way::kFilter) FillFilter(p, vocab);
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

  void Run(int32_t vocab, Way way) {
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
      if (i > 0) logits[5 * stride + i] = std::round(logits[5 * stride + i]) * 0.0f;  // 0 and -0
      logits[6 * stride + i] *= 0.01f;                                                // nearly flat
      logits[7 * stride + i] = RoundedTo(Element::kBFloat16, logits[7 * stride + i]);
      logits[8 * stride + i] = 20 * logits[8 * stride + i] - 1e4f;
    }
    logits[9 * stride] = 60;  // all the rest is hardly there
    logits[4 * stride + Below(vocab)] = inf;
    std::vector<Rules> rules(kRows);
    std::vector<ScanRow> rows(kRows);
    std::vector<int32_t> expected;
    for (int32_t r = 0; r < kRows; ++r) {
      Rules& of = rules[r];
      Fill(of, vocab, way, Below(2) == 0 ? 0 : Below(70));
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
      row.top_k = of.params.top_k;
      row.top_p = of.params.top_p;
      if (of.params.min_p > 0) row.log_min_p = std::log(of.params.min_p);
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
    DeviceArray<float> scaled(static_cast<size_t>(kRows) * vocab);
    ASSERT_EQ(
        way == Way::kFilter ? LaunchFilter({a, scaled.data()}, nullptr) : LaunchScan(a, nullptr),
        cudaSuccess);
    EXPECT_EQ(tokens.Read(), expected) << "vocab " << vocab << " way " << int(way);
  }
};

constexpr int32_t kVocabs[] = {1,   15,  16,  17,   63,   64,   65,  127,
                               128, 129, 317, 1000, 4096, 4097, 9001};

TEST_F(ScanTest, DrawsAreTheCpus) {
  for (const int32_t vocab : kVocabs) {
    for (int repeat = 0; repeat < 3; ++repeat) Run(vocab, Way::kScan);
  }
}

TEST_F(ScanTest, GreedyIsTheCpus) {
  for (const int32_t vocab : kVocabs) {
    for (int repeat = 0; repeat < 3; ++repeat) Run(vocab, Way::kGreedy);
  }
}

TEST_F(ScanTest, FilteredDrawsAreTheCpus) {
  for (const int32_t vocab : kVocabs) Run(vocab, Way::kFilter);
}

class ScoreTest : public KernelRows {
 protected:
  static void ExpectScore(const TokenScore& score, TokenId id, float logprob, int32_t rank) {
    ASSERT_EQ(score.id, id);
    EXPECT_EQ(score.rank, rank) << id;
    if (std::isinf(logprob)) {
      EXPECT_EQ(score.logprob, logprob) << id;
    } else {
      EXPECT_NEAR(score.logprob, logprob, 1e-5f * std::max(1.0f, std::abs(logprob))) << id;
    }
  }

  void Run(int32_t vocab, int32_t num_top) {
    SCOPED_TRACE(testing::PrintToString(std::vector<int32_t>{vocab, num_top}));
    constexpr int32_t kRows = 5;
    const int64_t stride = vocab + Below(5);
    std::vector<float> logits = Random(kRows * stride);
    for (int32_t i = 0; i < vocab; ++i) {
      logits[stride + i] = RoundedTo(Element::kBFloat16, 3 * logits[stride + i]);
      if (i % 3 == 0) logits[2 * stride + i] = std::numeric_limits<float>::quiet_NaN();
      logits[3 * stride + i] = i % 2 == 0 ? -std::numeric_limits<float>::infinity() : 1.0f;
    }
    logits[4 * stride + Below(vocab)] = std::numeric_limits<float>::infinity();
    std::vector<int32_t> tokens(kRows), also(3);
    for (int32_t& id : tokens) id = Below(vocab);
    for (int32_t& id : also) id = Below(vocab);
    tokens[0] = -1;
    const int32_t per_row = 1 + num_top + 3;
    DeviceArray<float> dl(logits);
    DeviceArray<int32_t> dt(tokens), da(also);
    DeviceArray<TokenScore> scores(static_cast<size_t>(kRows * per_row));
    std::vector<ScoreRow> rows(kRows);
    for (int32_t r = 0; r < kRows; ++r) {
      rows[r] = {r, dt.data() + r, num_top, 3, da.data(), scores.data() + r * per_row};
    }
    DeviceArray<ScoreRow> dr(rows);
    ASSERT_EQ(LaunchScore({dl.data(), stride, vocab, dr.data(), kRows}, nullptr), cudaSuccess);
    const std::vector<TokenScore> out = scores.Read();
    for (int32_t r = 0; r < kRows; ++r) {
      SCOPED_TRACE(r);
      SampledToken cpu;
      cpu.id = tokens[r];
      ScoreToken({logits.data() + r * stride, static_cast<size_t>(vocab)}, num_top, also, cpu);
      const TokenScore* score = out.data() + r * per_row;
      if (tokens[r] < 0) {
        EXPECT_EQ(score->id, -1);
      } else {
        ExpectScore(*score, tokens[r], cpu.logprob, cpu.rank);
      }
      ++score;
      const auto num_ranked = static_cast<int32_t>(cpu.top.size()) - 3;
      ASSERT_EQ(num_ranked, std::min(num_top, vocab));
      for (int32_t i = 0; i < num_top; ++i, ++score) {
        if (i < num_ranked) {
          ExpectScore(*score, cpu.top[i].id, cpu.top[i].logprob, i + 1);
        } else {
          EXPECT_EQ(score->id, -1);
        }
      }
      for (int32_t i = 0; i < 3; ++i, ++score) {
        const TokenLogprob& of = cpu.top[num_ranked + i];
        ExpectScore(*score, of.id, of.logprob, of.rank);
      }
    }
  }
};

TEST_F(ScoreTest, ScoresAreTheCpus) {
  for (const int32_t vocab : {1, 16, 65, 317, 4097}) {
    for (const int32_t num_top : {0, 1 + Below(20), 200}) Run(vocab, num_top);
  }
}

}  // namespace
}  // namespace penstock::PENSTOCK_KERNELS
