#include "backend/cpu/sample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "backend/cpu/philox.h"
#include "backend/cpu/shared_math.h"
#include "base/sanitizers.h"

namespace penstock {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TokenId Draw(const std::vector<float>& logits, const SamplingParams& params, int32_t position = 0) {
  SampleRow row;
  row.params = &params;
  row.position = position;
  return SampleToken(logits, row).id;
}

SamplingParams Greedy() {
  SamplingParams p;
  p.temperature = 0;
  return p;
}

std::vector<float> RandomLogits(size_t n, uint32_t seed, float spread) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

// The known-answer tests that come with the paper's reference code.
TEST(Philox, GivesThePublishedVectors) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(SharedMath, AgreesWithTheLibraryInDoublePrecision) {
  std::mt19937 random(11);
  const auto expect_close = [](double value, double exact) {
    EXPECT_NEAR(value, exact, 2.5e-7 * std::abs(exact));
  };
  for (int i = 0; i < 100000; ++i) {
    const float near_one = 1 + (static_cast<int32_t>(random()) >> random() % 31) * 0x1p-32f;
    expect_close(SharedLog(near_one), std::log(double{near_one}));
    const float x = std::exp2(static_cast<float>(random() % 2000) * 0.1f - 100) * near_one;
    expect_close(SharedLog(x), std::log(double{x}));
    const float y = static_cast<float>(random()) * -87.0f * 0x1p-32f;
    expect_close(SharedExp(y), std::exp(double{y}));
    const uint32_t word = random() >> random() % 32;
    const double u =
        std::min((static_cast<double>(static_cast<float>(word)) + 0.5) * 0x1p-32, 1.0 - 0x1p-24);
    const double noise = -std::log(-std::log1p(-static_cast<double>(static_cast<float>(u))));
    EXPECT_NEAR(SampleNoise(word), noise, 3e-7 * std::max(1.0, std::abs(noise))) << word;
  }
}

TEST(Sample, GreedyTakesTheHighestAndTheLowestIdOnTies) {
  EXPECT_EQ(Draw({1, 5, 2}, Greedy()), 1);
  EXPECT_EQ(Draw({1, 5, 5, 5}, Greedy()), 1);
}

TEST(Sample, PassesOverNanAndMinusInfinity) {
  EXPECT_EQ(Draw({kNan, -kInf, 1, 0}, Greedy()), 2);
  SamplingParams p;
  p.seed = 3;
  for (int position = 0; position < 50; ++position)
    EXPECT_EQ(Draw({kNan, -kInf, 1}, p, position), 2);
}

TEST(Sample, TakesInfinityAsTheHighest) { EXPECT_EQ(Draw({0, kInf, 5}, Greedy()), 1); }

TEST(Sample, GreedyIsTheFirstOfTheHighestWhereverItLies) {
  std::mt19937 random(11);
  for (int run = 0; run < 400; ++run) {
    std::vector<float> logits = RandomLogits(1 + random() % 150, run, 1.0f);
    for (float& x : logits) x = std::round(2 * x);  // ties
    for (const float strange : {kNan, kNan, kInf, -kInf}) {
      if (random() % 3 == 0) logits[random() % logits.size()] = strange;
    }
    TokenId expected = -1;
    for (size_t i = 0; i < logits.size(); ++i) {
      if (std::isnan(logits[i]) || logits[i] == -kInf) continue;
      if (expected < 0 || logits[i] > logits[expected]) expected = static_cast<TokenId>(i);
    }
    ASSERT_EQ(Draw(logits, Greedy()), expected) << run;
  }
}

TEST(Sample, SaysThatARowHoldsNoNumber) {
  EXPECT_EQ(Draw({kNan, kNan}, Greedy()), -1);
  EXPECT_EQ(Draw({-kInf, kNan}, SamplingParams()), -1);
}

TEST(Sample, DependsOnSeedAndPositionOnly) {
  const std::vector<float> logits = RandomLogits(300, 1, 1.0f);
  SamplingParams p;
  p.seed = 0x123456789abcdefu;
  int different = 0;
  for (int position = 0; position < 100; ++position) {
    EXPECT_EQ(Draw(logits, p, position), Draw(logits, p, position));
    different += Draw(logits, p, position) != Draw(logits, p, position + 1);
  }
  EXPECT_GT(different, 80);
}

TEST(Sample, DrawsWithTheProbabilitiesOfTheSoftmax) {
  const std::vector<float> logits = {0.0f, 1.0f, -1.0f, 2.0f, 0.5f};
  for (const float temperature : {1.0f, 0.5f, 2.0f}) {
    SamplingParams p;
    p.temperature = temperature;
    p.seed = 99;
    double total = 0;
    for (const float x : logits) total += std::exp(x / temperature);
    constexpr int kDraws = 20000;
    std::vector<int> counts(logits.size());
    for (int position = 0; position < kDraws; ++position) ++counts[Draw(logits, p, position)];
    for (size_t i = 0; i < logits.size(); ++i) {
      const double expected = std::exp(logits[i] / temperature) / total;
      const double deviation = std::sqrt(expected * (1 - expected) / kDraws);
      EXPECT_NEAR(counts[i] / double{kDraws}, expected, 5 * deviation) << i;
    }
  }
}

// The kept set by sorting everything, and the argmax over it: the rule in its plainest form.
TokenId DrawBySorting(const std::vector<float>& logits, const SamplingParams& p, int32_t position) {
  std::vector<std::pair<float, TokenId>> order;
  for (size_t i = 0; i < logits.size(); ++i)
    order.push_back({-logits[i] / p.temperature, static_cast<TokenId>(i)});
  std::sort(order.begin(), order.end());
  const float best = -order[0].first;
  if (p.min_p > 0)
    std::erase_if(order, [&](const auto& x) { return -x.first < best + std::log(p.min_p); });
  if (p.top_k > 0 && static_cast<size_t>(p.top_k) < order.size()) order.resize(p.top_k);
  double total = 0;
  for (const auto& [x, id] : order) total += std::exp(double{-x} - best);
  double sum = 0;
  size_t kept = 0;
  while (kept < order.size() && (kept == 0 || sum < p.top_p * total))
    sum += std::exp(double{-order[kept++].first} - best);
  if (p.top_p < 1) order.resize(kept);
  TokenId token = -1;
  float score = -kInf;
  for (const auto& [x, id] : order) {
    const float s = -x + GumbelNoise(p.seed, position, id);
    if (s > score || (s == score && id < token)) {
      score = s;
      token = id;
    }
  }
  return token;
}

TEST(Sample, FiltersAsFullSortingWould) {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    const std::vector<float> logits =
        RandomLogits(1 + random() % 500, random(), 0.5f + random() % 4);
    SamplingParams p;
    p.temperature = 0.3f + 0.1f * (random() % 15);
    p.seed = random();
    if (random() % 2) p.top_k = 1 + random() % 60;
    if (random() % 2) p.top_p = 0.05f + 0.05f * (random() % 19);
    if (random() % 3 == 0) p.min_p = 0.02f * (1 + random() % 10);
    ASSERT_EQ(Draw(logits, p, round), DrawBySorting(logits, p, round))
        << "top_k " << p.top_k << " top_p " << p.top_p << " min_p " << p.min_p;
  }
}

// What may be drawn and with what probability, in double precision: temperature, min_p, top_k, top_p
// on the renormalised rest, and renormalised once more.
std::map<TokenId, double> ExactDistribution(const std::vector<float>& logits,
                                            const SamplingParams& p) {
  std::vector<std::pair<double, TokenId>> order;  // probability up to a factor, the largest first
  const double best = *std::max_element(logits.begin(), logits.end());
  for (size_t i = 0; i < logits.size(); ++i)
    order.push_back({std::exp((logits[i] - best) / p.temperature), static_cast<TokenId>(i)});
  std::sort(order.rbegin(), order.rend());
  std::erase_if(order, [&](const auto& x) { return x.first < p.min_p; });
  if (p.top_k > 0 && static_cast<size_t>(p.top_k) < order.size()) order.resize(p.top_k);
  double total = 0;
  for (const auto& x : order) total += x.first;
  double kept = 0;
  size_t count = 0;
  while (count < order.size() && (count == 0 || kept < p.top_p * total))
    kept += order[count++].first;
  order.resize(count);
  std::map<TokenId, double> out;
  for (const auto& [weight, id] : order) out[id] = weight / kept;
  return out;
}

// Pearson's test. Its statistic has a chi-square distribution; by Wilson and Hilferty (1931) the
// cube root of statistic over degrees of freedom is normal, which gives the number of deviations.
double ChiSquareDeviations(const std::map<TokenId, double>& exact,
                           const std::map<TokenId, int>& counts, int draws) {
  double statistic = 0;
  double rare_expected = 0;  // cells too small for the approximation count as one
  double rare_seen = 0;
  int cells = 0;
  const auto add = [&](double seen, double expected) {
    statistic += (seen - expected) * (seen - expected) / expected;
    ++cells;
  };
  for (const auto& [id, probability] : exact) {
    const auto it = counts.find(id);
    const double seen = it == counts.end() ? 0 : it->second;
    if (probability * draws >= 8) {
      add(seen, probability * draws);
    } else {
      rare_expected += probability * draws;
      rare_seen += seen;
    }
  }
  if (rare_expected >= 8) add(rare_seen, rare_expected);
  if (cells < 2) return 0;
  const double freedom = cells - 1;
  const double variance = 2 / (9 * freedom);
  return (std::cbrt(statistic / freedom) - (1 - variance)) / std::sqrt(variance);
}

TEST(Sample, PassesAChiSquareTestAgainstTheExactDistribution) {
  constexpr int kDraws = 20000;
  struct Rules {
    float temperature;
    int32_t top_k;
    float top_p, min_p;
  };
  for (const Rules& rules :
       {Rules{1.0f, 0, 1.0f, 0.0f}, Rules{0.6f, 0, 1.0f, 0.0f}, Rules{1.5f, 0, 1.0f, 0.0f},
        Rules{1.0f, 17, 1.0f, 0.0f}, Rules{1.0f, 0, 0.8f, 0.0f}, Rules{1.0f, 0, 1.0f, 0.05f},
        Rules{0.8f, 40, 0.9f, 0.01f}, Rules{1.3f, 60, 0.95f, 0.02f}}) {
    for (uint32_t round = 0; round < (kSanitized ? 1 : 2); ++round) {
      const std::vector<float> logits = RandomLogits(200, 40 + round, 1.5f);
      SamplingParams p;
      p.temperature = rules.temperature;
      p.top_k = rules.top_k;
      p.top_p = rules.top_p;
      p.min_p = rules.min_p;
      const std::map<TokenId, double> exact = ExactDistribution(logits, p);
      std::map<TokenId, int> counts;
      for (int i = 0; i < kDraws; ++i) {  // seeds and positions both vary
        p.seed = 1000 + i / 100;
        const TokenId id = Draw(logits, p, i % 100);
        ASSERT_TRUE(exact.contains(id)) << "token " << id << " cannot be drawn";
        ++counts[id];
      }
      const double deviations = ChiSquareDeviations(exact, counts, kDraws);
      EXPECT_LT(std::abs(deviations), 4) << "temperature " << p.temperature << " top_k " << p.top_k
                                         << " top_p " << p.top_p << " min_p " << p.min_p;
      // The same draws do not fit a distribution that is a little off.
      std::map<TokenId, double> skewed = exact;
      double total = 0;
      for (auto& [id, probability] : skewed) total += probability *= id % 2 == 0 ? 1.25 : 1.0;
      for (auto& [id, probability] : skewed) probability /= total;
      EXPECT_GT(ChiSquareDeviations(skewed, counts, kDraws), 4) << exact.size() << " cells";
    }
  }
}

TEST(Sample, TopKOfOneIsGreedy) {
  const std::vector<float> logits = RandomLogits(100, 5, 1.0f);
  SamplingParams p;
  p.top_k = 1;
  EXPECT_EQ(Draw(logits, p, 3), Draw(logits, Greedy()));
}

TEST(Sample, AddsLogitBiasAndIgnoresForeignIds) {
  SamplingParams p = Greedy();
  p.logit_bias = {{0, 3.0f}, {17, 100.0f}, {-1, 100.0f}};
  EXPECT_EQ(Draw({0, 2, 1}, p), 0);
}

TEST(Sample, PenalisesWhatWasThere) {
  const std::vector<float> logits = {3.0f, 2.9f, -1.0f};
  std::vector<int32_t> counts = {1, 0, 0, /*output*/ 0, 0, 0};
  SampleRow row;
  SamplingParams p = Greedy();
  row.params = &p;
  row.prompt_output_counts = counts;
  p.repetition_penalty = 2.0f;
  EXPECT_EQ(SampleToken(logits, row).id, 1);  // the prompt counts
  p.repetition_penalty = 1.0f;
  p.presence_penalty = 1.0f;
  EXPECT_EQ(SampleToken(logits, row).id, 0);  // only the output counts
  counts = {0, 0, 0, 1, 0, 0};
  EXPECT_EQ(SampleToken(logits, row).id, 1);
  p.presence_penalty = 0.0f;
  p.frequency_penalty = 0.04f;
  EXPECT_EQ(SampleToken(logits, row).id, 0);
  counts = {0, 0, 0, 3, 0, 0};
  EXPECT_EQ(SampleToken(logits, row).id, 1);
}

TEST(Sample, RepetitionPenaltyPushesNegativeLogitsDown) {
  std::vector<int32_t> counts = {1, 0, 0, 0};
  SamplingParams p = Greedy();
  p.repetition_penalty = 2.0f;
  SampleRow row;
  row.params = &p;
  row.prompt_output_counts = counts;
  EXPECT_EQ(SampleToken(std::vector<float>{-1.0f, -1.5f}, row).id, 1);
}

TEST(Sample, DrawsOnlyWhatMaskAndListsAllow) {
  const std::vector<float> logits = RandomLogits(70, 9, 1.0f);
  SamplingParams p;
  p.allowed_token_ids = {3, 40, 69, 500};
  const uint32_t words[] = {~0u, ~(1u << 8), ~0u};  // not 40
  SampleRow row;
  row.params = &p;
  row.mask = words;
  const TokenId banned[] = {3};
  row.banned = banned;
  for (row.position = 0; row.position < 20; ++row.position)
    EXPECT_EQ(SampleToken(logits, row).id, 69);
}

TEST(Sample, UnderAMaskTakesTheHighestThatItAllows) {
  SamplingParams p = Greedy();
  SamplingParams by_candidates = p;
  by_candidates.logit_bias = {{0, 0.0f}};  // changes nothing, but the way that is taken
  std::mt19937 random(7);
  for (int run = 0; run < 200; ++run) {
    std::vector<float> logits = RandomLogits(70, run, 1.0f);
    for (float& x : logits) x = std::round(2 * x);  // ties
    for (const float strange : {kNan, kInf, -kInf}) {
      if (random() % 2 == 0) logits[random() % logits.size()] = strange;
    }
    std::array<uint32_t, 3> words;
    for (uint32_t& word : words) word = random() & random() & (run % 3 == 0 ? random() : ~0u);
    if (run % 20 == 0) words = {0, 0, ~0x3fu};  // tokens that are not there
    SampleRow row;
    row.params = &p;
    row.mask = words;
    const TokenId id = SampleToken(logits, row).id;
    row.params = &by_candidates;
    ASSERT_EQ(id, SampleToken(logits, row).id) << run;
    if (run % 20 == 0) ASSERT_EQ(id, -1);
  }
}

TEST(Sample, LiftsMinTokensAndThenTheAllowedIdsWhereNothingIsLeft) {
  SamplingParams p = Greedy();
  p.allowed_token_ids = {1};
  SampleRow row;
  row.params = &p;
  const TokenId banned[] = {1};
  row.banned = banned;
  EXPECT_EQ(SampleToken(std::vector<float>{5, 1, 2}, row).id, 1);
  const uint32_t words[] = {0b100};
  row.mask = words;
  EXPECT_EQ(SampleToken(std::vector<float>{5, 1, 2}, row).id, 2);
}

TEST(Sample, ReportsLogprobsOfTheRawLogits) {
  const std::vector<float> logits = {1.0f, 3.0f, kNan, 2.0f, -kInf};
  SamplingParams p = Greedy();
  p.logit_bias = {{0, 10.0f}};  // draws 0, whose raw rank is 3
  p.num_logprobs = 2;
  p.logprob_token_ids = {4, 3};
  SampleRow row;
  row.params = &p;
  const SampledToken token = SampleToken(logits, row);
  const double total = std::exp(1.0) + std::exp(3.0) + std::exp(2.0);
  EXPECT_EQ(token.id, 0);
  EXPECT_NEAR(token.logprob, 1 - std::log(total), 1e-6);
  EXPECT_EQ(token.rank, 3);
  ASSERT_EQ(token.top.size(), 4u);
  EXPECT_EQ(token.top[0].id, 1);
  EXPECT_NEAR(token.top[0].logprob, 3 - std::log(total), 1e-6);
  EXPECT_EQ(token.top[1].id, 3);
  EXPECT_EQ(token.top[1].rank, 2);
  EXPECT_EQ(token.top[2].id, 4);
  EXPECT_EQ(token.top[2].logprob, -kInf);
  EXPECT_EQ(token.top[3].rank, 2);
}

TEST(Sample, GivesNoLogprobsWhereNoneAreAsked) {
  SampleRow row;
  const SamplingParams p = Greedy();
  row.params = &p;
  const SampledToken token = SampleToken(std::vector<float>{1, 2}, row);
  EXPECT_TRUE(std::isnan(token.logprob));
  EXPECT_TRUE(token.top.empty());
}

}  // namespace
}  // namespace penstock
