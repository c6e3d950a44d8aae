#include "executor/golden_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/runner_driver.h"
#include "fakes/tiny_model.h"

namespace penstock {
namespace {

constexpr int32_t kGreedy = 6;

class GoldenCheckTest : public ::testing::Test {
 protected:
  /// References made by the runner itself.
  std::vector<GoldenPrompt> OwnGolden(DType dtype) {
    RunnerOptions options = TinyRunnerOptions();
    options.dtype = options.kv_dtype = dtype;
    auto runner = ModelRunner::Make(model_.get(), options);
    CHECK(runner.ok());
    RunnerDriver driver(runner->get());
    std::vector<GoldenPrompt> prompts;
    for (const int32_t length : {1, 7, 40}) {
      DrivenSequence s = driver.Begin(TinyPrompt(length, length), true);
      CHECK(driver.Run(s, 64, kGreedy).ok());
      GoldenPrompt p;
      p.ids = TinyPrompt(length, length);
      p.logits = s.logits;
      p.greedy.assign(s.tokens.begin() + length, s.tokens.end());
      p.gap.assign(kGreedy, 1.0f);
      prompts.push_back(std::move(p));
      driver.End(s);
    }
    return prompts;
  }
  GoldenReport Check(DType dtype, const std::vector<GoldenPrompt>& prompts) {
    const auto report = CheckGolden(model_.get(), dtype, prompts);
    EXPECT_TRUE(report.ok()) << report.status();
    return *report;
  }

  WorkerPool pool_{2};
  std::unique_ptr<LoadedModel> model_ = LoadTinyModel(&pool_);
};

TEST_F(GoldenCheckTest, PassesOnItsOwnLogitsInEveryWay) {
  const GoldenReport report = Check(DType::kFloat32, OwnGolden(DType::kFloat32));
  EXPECT_TRUE(report.passed);
  EXPECT_EQ(report.results.size(), 21u);
  for (const GoldenResult& r : report.results) {
    EXPECT_EQ(r.error, 0) << r.way;
    EXPECT_TRUE(r.same_bits);
    EXPECT_EQ(r.greedy_equal, kGreedy);
  }
}

TEST_F(GoldenCheckTest, FailsOnLogitsThatAreALittleOff) {
  auto prompts = OwnGolden(DType::kFloat32);
  for (float& x : prompts[1].logits) x *= 1.001f;
  const GoldenReport report = Check(DType::kFloat32, prompts);
  EXPECT_FALSE(report.passed);
  for (const GoldenResult& r : report.results) EXPECT_EQ(r.passed, r.prompt != 1);
}

TEST_F(GoldenCheckTest, FailsOnAWrongGreedyTokenBeforeTheFirstSmallGap) {
  auto prompts = OwnGolden(DType::kFloat32);
  prompts[2].greedy[3] ^= 1;
  EXPECT_FALSE(Check(DType::kFloat32, prompts).passed);
  prompts[2].gap[3] = 0.01f;
  EXPECT_TRUE(Check(DType::kFloat32, prompts).passed);
}

TEST_F(GoldenCheckTest, JudgesBfloat16PerPosition) {
  EXPECT_TRUE(Check(DType::kBFloat16, OwnGolden(DType::kFloat32)).median > 1e-4);
}

TEST_F(GoldenCheckTest, ABfloat16RunThatIsTooExactFails) {
  EXPECT_FALSE(Check(DType::kBFloat16, OwnGolden(DType::kBFloat16)).passed);
}

TEST(LoadGolden, NamesWhatIsWrong) {
  const TempDir dir;
  const auto error = [&](const std::vector<TensorToWrite>& tensors) {
    return LoadGolden(dir.Write("g", SafetensorsFile(tensors)), 3).status().ToString();
  };
  const std::string two_ids = BytesOf(std::vector<int32_t>{1, 2});
  const std::string six = BytesOf(std::vector<float>(6));
  EXPECT_THAT(error({}), ::testing::HasSubstr("p0.ids"));
  EXPECT_THAT(error({{"p0.ids", "I32", {2}, two_ids}}), ::testing::HasSubstr("p0.logits"));
  EXPECT_THAT(error({{"p0.ids", "F32", {2}, two_ids}}), ::testing::HasSubstr("not I32"));
  EXPECT_THAT(error({{"p0.ids", "I32", {2}, two_ids}, {"p0.logits", "F32", {2}, two_ids}}),
              ::testing::HasSubstr("2 logits for 2 tokens"));
  EXPECT_EQ(error({{"p0.ids", "I32", {2}, two_ids}, {"p0.logits", "F32", {6}, six}}), "OK");
}

}  // namespace
}  // namespace penstock
