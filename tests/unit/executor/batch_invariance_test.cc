// The same request gives the same bits alone, among strangers, in chunks, and with any number of
// threads.
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "executor/runner_driver.h"
#include "fakes/tiny_model.h"

namespace penstock {
namespace {

struct Setting {
  std::string architecture;
  DType dtype;
  DType kv_dtype;
  std::string extra;
};

class BatchInvariance : public ::testing::TestWithParam<int> {
 protected:
  static Setting Get(int i) {
    const Setting settings[] = {
        {"LlamaForCausalLM", DType::kFloat32, DType::kFloat32, ""},
        {"LlamaForCausalLM", DType::kBFloat16, DType::kBFloat16, ""},
        {"LlamaForCausalLM", DType::kFloat32, DType::kInt8, ""},
        {"MistralForCausalLM", DType::kBFloat16, DType::kBFloat16, "\"sliding_window\": 24,"},
        {"MistralForCausalLM", DType::kFloat32, DType::kBFloat16, "\"sliding_window\": 75,"},
        {"Qwen3ForCausalLM", DType::kFloat32, DType::kFloat32,
         R"("use_sliding_window": true, "sliding_window": 24, "max_window_layers": 1,)"}};
    return settings[i];
  }

  /// Logits of every prompt, computed with `threads` threads by `drive`.
  template <class Drive>
  static std::vector<std::vector<float>> Compute(int threads,
                                                 const std::vector<std::vector<TokenId>>& prompts,
                                                 const Drive& drive) {
    const Setting setting = Get(GetParam());
    WorkerPool pool(threads);
    const auto model = LoadTinyModel(&pool, TinyConfig(setting.architecture, setting.extra));
    RunnerOptions options = TinyRunnerOptions();
    options.dtype = setting.dtype;
    options.kv_dtype = setting.kv_dtype;
    auto runner = ModelRunner::Make(model.get(), options);
    CHECK(runner.ok());
    RunnerDriver driver(runner->get());
    std::vector<DrivenSequence> sequences;
    for (const auto& prompt : prompts) sequences.push_back(driver.Begin(prompt, true));
    drive(driver, sequences);
    std::vector<std::vector<float>> logits;
    for (DrivenSequence& s : sequences) logits.push_back(s.logits);
    return logits;
  }
  static std::vector<std::vector<TokenId>> Prompts() {
    std::vector<std::vector<TokenId>> prompts;
    for (const int32_t length : {1, 16, 17, 33, 63, 64, 65, 127})
      prompts.push_back(TinyPrompt(length, 100 + length));
    return prompts;
  }
  static void Alone(RunnerDriver& driver, std::vector<DrivenSequence>& sequences) {
    for (DrivenSequence& s : sequences) CHECK(driver.Step({{&s, s.num_prompt}}).ok());
  }
  static void ExpectEqualBits(const std::vector<std::vector<float>>& a,
                              const std::vector<std::vector<float>>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(float)), 0)
          << "prompt " << i;
    }
  }
};

TEST_P(BatchInvariance, OneThreadAndSeveralGiveTheSameBits) {
  ExpectEqualBits(Compute(1, Prompts(), Alone), Compute(2, Prompts(), Alone));
  ExpectEqualBits(Compute(1, Prompts(), Alone), Compute(5, Prompts(), Alone));
}

TEST_P(BatchInvariance, AmongStrangersInMixedChunksGivesTheSameBits) {
  const auto mixed =
      Compute(2, Prompts(), [](RunnerDriver& driver, std::vector<DrivenSequence>& sequences) {
        for (int32_t round = 0;; ++round) {
          std::vector<RunnerDriver::Item> items;
          for (size_t i = 0; i < sequences.size(); ++i) {
            DrivenSequence& s = sequences[(i + round) % sequences.size()];
            const int32_t left = s.num_prompt - s.num_computed;
            if (left > 0)
              items.push_back({&s, std::min<int32_t>(left, 1 + (round * 5 + i * 3) % 13)});
          }
          if (items.empty()) return;
          CHECK(driver.Step(items).ok());
        }
      });
  ExpectEqualBits(Compute(2, Prompts(), Alone), mixed);
}

INSTANTIATE_TEST_SUITE_P(Settings, BatchInvariance, ::testing::Range(0, 6));

}  // namespace
}  // namespace penstock
