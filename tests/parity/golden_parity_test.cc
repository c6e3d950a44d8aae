// Whole models against reference logits and tokens, in every way in which a prompt is computed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "executor/golden_check.h"
#include "executor/runner_driver.h"
#include "format/json_text.h"
#include "model/families.h"
#include "parity/short_golden.h"

namespace penstock {
namespace {

std::string Shared(const std::string& path) {
  return std::string(PENSTOCK_SHARED_DATA) + "/models/" + path;
}

absl::StatusOr<std::unique_ptr<LoadedModel>> Load(const std::string& dir, const std::string& device,
                                                  WorkerPool* pool,
                                                  const std::string& weights = "file",
                                                  DType dtype = DType::kBFloat16) {
  LoadOptions load;
  if (dtype == DType::kFloat16) load.dtype = "float16";
  load.model_dir = dir;
  load.weights = weights;
  load.device = device;
  load.pool = pool;
  return LoadModel(load);
}

void ExpectGolden(const std::string& dir, const std::string& device, DType dtype,
                  const std::string& weights = "file") {
  WorkerPool pool(2);
  const auto model = Load(dir, device, &pool, weights);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto prompts = LoadGolden(dir + "/golden.safetensors", (*model)->config.vocab_size);
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  const auto report = CheckGolden(model->get(), dtype, *prompts);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->results.size(), 7 * prompts->size());
  for (const GoldenResult& r : report->results) {
    EXPECT_TRUE(r.passed) << "prompt " << r.prompt << ", " << r.way << ": error " << r.error
                          << ", greedy " << r.greedy_equal << " of " << r.greedy_required
                          << ", bits " << r.same_bits;
  }
  EXPECT_TRUE(report->passed) << "median " << report->median << ", 90th percentile " << report->p90;
}

/// As ExpectGolden, on a device that takes a second for what others do in a millisecond.
void ExpectShortGolden(const std::string& dir, const std::string& device,
                       const std::vector<ShortRun>& runs, DType dtype = DType::kBFloat16,
                       const std::string& weights = "file") {
  LoadOptions load;
  load.model_dir = dir;
  load.weights = weights;
  load.device = device;
  ExpectGoldenOf(load, runs, dtype);
}

DType TypeOf(const std::string& name) {
  return name == "float32" ? DType::kFloat32 : DType::kBFloat16;
}

class DemoGolden : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(DemoGolden, EveryWayMeetsTheReference) {
  const auto& [device, dtype] = GetParam();
  ExpectGolden(std::string(PENSTOCK_SOURCE_DIR) + "/models/demo", device, TypeOf(dtype));
}

INSTANTIATE_TEST_SUITE_P(Devices, DemoGolden,
                         ::testing::Combine(::testing::Values("cpu"),
                                            ::testing::Values("float32", "bfloat16")),
                         [](const auto& info) {
                           return std::get<1>(info.param) + "_on_" + std::get<0>(info.param);
                         });

/// Families whose goldens come with files of weights, from other implementations' own code.
std::vector<std::string> SharedFamilies() {
  return {"llama",   "llama3_rope", "llama_bias", "mistral_swa", "qwen2",     "qwen2_yarn",
          "qwen3",   "gemma2",      "gemma3",     "gemma4",      "phi3",      "olmo2",
          "olmo3",   "granite",     "smollm3",    "ministral3",  "glm4",      "cohere2",
          "exaone4", "gpt2",        "gpt_neox",   "mixtral",     "qwen2_moe", "qwen3_moe",
          "olmoe",   "gpt_oss",     "glm4_moe",   "deepseek_v3", "qwen3_5"};
}

class FamilyGolden
    : public ::testing::TestWithParam<std::tuple<std::string, std::string, std::string>> {};

TEST_P(FamilyGolden, EveryWayMeetsTheReference) {
  const auto& [device, family, dtype] = GetParam();
  const std::string dir = Shared("families/" + family);
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << dir << " is not there";
  ExpectGolden(dir, device, TypeOf(dtype));
}

INSTANTIATE_TEST_SUITE_P(Devices, FamilyGolden,
                         ::testing::Combine(::testing::Values("cpu"),
                                            ::testing::ValuesIn(SharedFamilies()),
                                            ::testing::Values("float32", "bfloat16")),
                         [](const auto& info) {
                           return std::get<1>(info.param) + "_" + std::get<2>(info.param) + "_on_" +
                                  std::get<0>(info.param);
                         });

class EmulatedFamilyGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(EmulatedFamilyGolden, SomeWaysMeetTheReference) {
  const std::string dir = Shared("families/" + GetParam());
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << dir << " is not there";
  // 27 positions are beyond the windows of 24.
  ExpectShortGolden(dir, "cuda-emulated",
                    {{3, 27, 0, {"chunk16", "prefix_hit"}},
                     {1, 5, 2, {"chunk1", "batched"}},
                     {2, 17, 2, {"chunk7", "preempted"}}});
}

INSTANTIATE_TEST_SUITE_P(Families, EmulatedFamilyGolden, ::testing::ValuesIn(SharedFamilies()),
                         [](const auto& info) { return info.param; });

/// Model, and a prompt of it that has 17 positions.
class EmulatedFloat16Golden : public ::testing::TestWithParam<std::tuple<std::string, size_t>> {};

TEST_P(EmulatedFloat16Golden, SomeWaysMeetTheReference) {
  const auto& [model, prompt] = GetParam();
  const std::string dir = Shared(model);
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << dir << " is not there";
  ExpectShortGolden(dir, "cuda-emulated", {{prompt, 17, 0, {"chunk7", "batched"}}},
                    DType::kFloat16);
}

INSTANTIATE_TEST_SUITE_P(
    Models, EmulatedFloat16Golden,
    ::testing::Values(std::tuple("families/llama", 2), std::tuple("families/gemma3", 2),
                      std::tuple("families/gpt2", 2), std::tuple("families/qwen3_moe", 2),
                      std::tuple("families/deepseek_v3", 2), std::tuple("families/qwen3_5", 2),
                      std::tuple("quantized/awq-4bit", 1), std::tuple("quantized/ct-w8a8-int8", 1)),
    [](const auto& info) {
      const std::string& model = std::get<0>(info.param);
      std::string name = model.substr(model.find('/') + 1);
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

class QuantizedGolden : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(QuantizedGolden, EveryWayMeetsTheReference) {
  const auto& [form, dtype] = GetParam();
  const std::string dir = Shared("quantized/" + form);
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << dir << " is not there";
  ExpectGolden(dir, "cpu", TypeOf(dtype));
}

INSTANTIATE_TEST_SUITE_P(Forms, QuantizedGolden,
                         ::testing::Combine(::testing::Values("gptq-4bit", "gptq-4bit-actorder",
                                                              "awq-4bit", "ct-w8a8-int8",
                                                              "ct-w4a16-g32", "ct-fp8-channel",
                                                              "fp8-block128", "mxfp4-gpt-oss"),
                                            ::testing::Values("float32", "bfloat16")),
                         [](const auto& info) {
                           std::string name =
                               std::get<0>(info.param) + "_" + std::get<1>(info.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

class EmulatedQuantizedGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(EmulatedQuantizedGolden, SomeWaysMeetTheReference) {
  const std::string dir = Shared("quantized/" + GetParam());
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << dir << " is not there";
  ExpectShortGolden(dir, "cuda-emulated", {{1, 17, 0, {"chunk7", "batched"}}});
}

INSTANTIATE_TEST_SUITE_P(Forms, EmulatedQuantizedGolden,
                         ::testing::Values("gptq-4bit-actorder", "awq-4bit", "ct-w8a8-int8",
                                           "ct-fp8-channel", "mxfp4-gpt-oss"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

/// tests/goldens/families: every row of the table of families, with weights that need no file.
std::vector<std::string> OwnFamilies() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(PENSTOCK_SOURCE_DIR) +
                                                               "/tests/goldens/families")) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class OwnFamilyGolden
    : public ::testing::TestWithParam<std::tuple<std::string, std::string, std::string>> {};

TEST_P(OwnFamilyGolden, EveryWayMeetsTheReference) {
  const auto& [device, family, dtype] = GetParam();
  ExpectGolden(std::string(PENSTOCK_SOURCE_DIR) + "/tests/goldens/families/" + family, device,
               TypeOf(dtype), "formula");
}

INSTANTIATE_TEST_SUITE_P(Devices, OwnFamilyGolden,
                         ::testing::Combine(::testing::Values("cpu"),
                                            ::testing::ValuesIn(OwnFamilies()),
                                            ::testing::Values("float32", "bfloat16")),
                         [](const auto& info) {
                           return std::get<1>(info.param) + "_" + std::get<2>(info.param) + "_on_" +
                                  std::get<0>(info.param);
                         });

/// Own families that no golden with a file of weights stands for.
std::vector<std::string> OwnFamiliesOnly() {
  std::vector<std::string> names = OwnFamilies();
  for (const std::string& shared : SharedFamilies()) std::erase(names, shared);
  return names;
}

class EmulatedOwnFamilyGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(EmulatedOwnFamilyGolden, SomeWaysMeetTheReference) {
  ExpectShortGolden(
      std::string(PENSTOCK_SOURCE_DIR) + "/tests/goldens/families/" + GetParam(), "cuda-emulated",
      {{1, 21, 1, {"chunk7", "batched"}}, {2, 25, 0, {"prefix_hit"}}}, DType::kBFloat16, "formula");
}

INSTANTIATE_TEST_SUITE_P(Families, EmulatedOwnFamilyGolden, ::testing::ValuesIn(OwnFamiliesOnly()),
                         [](const auto& info) { return info.param; });

TEST(OwnFamilies, CoverTheTableOfFamilies) {
  std::set<std::string> missing;
  for (const Family& family : Families()) missing.insert(std::string(family.architecture));
  for (const std::string& name : OwnFamilies()) {
    const auto config =
        LoadModelConfig(std::string(PENSTOCK_SOURCE_DIR) + "/tests/goldens/families/" + name);
    ASSERT_TRUE(config.ok()) << config.status();
    missing.erase(config->architecture);
  }
  EXPECT_TRUE(missing.empty()) << *missing.begin();
}

class Stories : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(Stories, GreedyTokensAreThoseOfThreeOtherImplementations) {
  const auto& [device, files] = GetParam();
  const std::string dir = Shared("stories260K/");
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << dir << " is not there";
  const auto text = ReadTextFile(dir + "golden.json", 16 << 20);
  ASSERT_TRUE(text.ok());
  const auto golden = ParseJson(*text, "golden.json");
  ASSERT_TRUE(golden.ok()) << golden.status();
  WorkerPool pool(2);
  const auto model = Load(dir + files, device, &pool);
  ASSERT_TRUE(model.ok()) << model.status();
  RunnerOptions options;
  options.kv_bytes = 64 << 20;
  options.num_slots = 4;
  auto runner = ModelRunner::Make(model->get(), options);
  ASSERT_TRUE(runner.ok()) << runner.status();
  RunnerDriver driver(runner->get());
  for (const auto& entry : (*golden)["cases"]) {
    const auto prompt = entry["prompt_ids"].get<std::vector<TokenId>>();
    const auto expected = entry["greedy_ids"].get<std::vector<TokenId>>();
    DrivenSequence s = driver.Begin(prompt, false);
    ASSERT_TRUE(driver.Run(s, 64, static_cast<int32_t>(expected.size())).ok());
    EXPECT_EQ(std::vector<TokenId>(s.tokens.begin() + s.num_prompt, s.tokens.end()), expected)
        << entry["prompt"];
    driver.End(s);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Stories,
                         ::testing::Combine(::testing::Values("cpu"),
                                            ::testing::Values("hf", "gguf/stories260K-F32.gguf",
                                                              "gguf/stories260K-F16.gguf")),
                         [](const auto& info) {
                           std::string files = std::get<1>(info.param);
                           for (char& c : files) {
                             if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
                           }
                           return files + "_on_" + std::get<0>(info.param);
                         });

TEST(Stories, ShardsGiveTheModelThatOneFileGives) {
  const std::string dir = Shared("stories260K/");
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << dir << " is not there";
  WorkerPool pool(2);
  const auto model = Load(dir + "hf-bf16-sharded", "cpu", &pool);
  ASSERT_TRUE(model.ok()) << model.status();
  RunnerOptions options;
  options.kv_bytes = 64 << 20;
  auto runner = ModelRunner::Make(model->get(), options);
  ASSERT_TRUE(runner.ok());
  RunnerDriver driver(runner->get());
  DrivenSequence s =
      driver.Begin(std::vector<TokenId>{1, 403, 407, 261, 378}, false);  // "Once upon a time"
  ASSERT_TRUE(driver.Run(s, 64, 10).ok());
  const std::vector<TokenId> expected = {432, 383, 286, 261, 376,
                                         298, 315, 421, 395, 317};  // ", there was a little"
  EXPECT_EQ(std::vector<TokenId>(s.tokens.begin() + 5, s.tokens.end()), expected);
}

}  // namespace
}  // namespace penstock
