// Models whose layers several ranks share against the reference logits and tokens, in every way in
// which a prompt is computed; and what cannot be shared, by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "executor/golden_check.h"
#include "executor/runner_driver.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

const std::string kSource = PENSTOCK_SOURCE_DIR;
const std::string kShared = std::string(PENSTOCK_SHARED_DATA) + "/models/";

struct Loading {
  std::string weights = "file";
  std::string quantize = "none";
};

absl::StatusOr<std::unique_ptr<LoadedModel>> LoadShared(const std::string& dir, int32_t ranks,
                                                        WorkerPool* pool,
                                                        const Loading& loading = {}) {
  LoadOptions load;
  load.model_dir = dir;
  load.weights = loading.weights;
  load.quantize = loading.quantize;
  load.tensor_parallel = ranks;
  load.pool = pool;
  return LoadModel(load);
}

/// Of families that ranks do not share: a part of the reason.
std::string RefusalOf(const std::string& family) {
  static const std::map<std::string, std::string> always = {
      {"deepseek_v2", "latent attention"},         {"deepseek_v3", "latent attention"},
      {"qwen3_next", "recurrent layers"},          {"qwen3_5", "recurrent layers"},
      {"minimax_m2", "normalised over all heads"}, {"qwen3_5_moe", "recurrent layers"},
      {"olmo2", "normalised over all heads"},      {"olmo3", "normalised over all heads"},
      {"olmoe", "normalised over all heads"}};
  const auto found = always.find(family);
  return found == always.end() ? "" : found->second;
}

/// Whether all heads and inner widths divide.
bool Divides(const ModelConfig& config, int32_t ranks) {
  bool divides = config.intermediate_size % ranks == 0 &&
                 config.experts.intermediate_size % ranks == 0 &&
                 config.experts.shared_intermediate_size % ranks == 0;
  for (const LayerConfig& layer : config.layers) {
    const int32_t kv = layer.heads.num_kv_heads;
    divides = divides && layer.heads.num_heads % ranks == 0 && (kv % ranks == 0 || ranks % kv == 0);
  }
  return divides;
}

void ExpectShared(const std::string& dir, const std::string& family, int32_t ranks, DType dtype,
                  const Loading& loading = {}) {
  WorkerPool pool(2);
  const auto model = LoadShared(dir, ranks, &pool, loading);
  const auto config = LoadModelConfig(dir);
  ASSERT_TRUE(config.ok()) << config.status();
  std::string refusal = RefusalOf(family);
  if (refusal.empty() && !Divides(*config, ranks)) refusal = "divide among";
  if (!refusal.empty()) {
    EXPECT_EQ(model.status().code(), absl::StatusCode::kUnimplemented) << model.status();
    EXPECT_THAT(model.status().message(),
                HasSubstr(absl::StrCat("tensor_parallel: ", ranks, " is not served for ",
                                       config->architecture)));
    EXPECT_THAT(model.status().message(), HasSubstr(refusal));
    return;
  }
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_EQ((*model)->ranks.size(), ranks);
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

DType TypeNamed(const std::string& name) {
  return name == "float32" ? DType::kFloat32 : DType::kBFloat16;
}

class SharedDemo : public ::testing::TestWithParam<std::tuple<int32_t, std::string>> {};

TEST_P(SharedDemo, EveryWayMeetsTheReference) {
  const auto& [ranks, dtype] = GetParam();
  ExpectShared(kSource + "/models/demo", "demo", ranks, TypeNamed(dtype));
}

INSTANTIATE_TEST_SUITE_P(Ranks, SharedDemo,
                         ::testing::Combine(::testing::Values(2, 4),
                                            ::testing::Values("float32", "bfloat16")),
                         [](const auto& info) {
                           return absl::StrCat("tp", std::get<0>(info.param), "_",
                                               std::get<1>(info.param));
                         });

class SharedFamily
    : public ::testing::TestWithParam<std::tuple<int32_t, std::string, std::string>> {};

TEST_P(SharedFamily, EveryWayMeetsTheReference) {
  const auto& [ranks, family, dtype] = GetParam();
  const std::string dir = kShared + "families/" + family;
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << dir << " is not there";
  ExpectShared(dir, family, ranks, TypeNamed(dtype));
}

INSTANTIATE_TEST_SUITE_P(
    Ranks, SharedFamily,
    ::testing::Combine(::testing::Values(2, 4),
                       ::testing::Values("llama", "llama3_rope", "llama_bias", "mistral_swa",
                                         "qwen2", "qwen2_yarn", "qwen3", "gemma2", "gemma3",
                                         "gemma4", "phi3", "olmo2", "olmo3", "granite", "smollm3",
                                         "ministral3", "glm4", "cohere2", "exaone4", "gpt2",
                                         "gpt_neox", "mixtral", "qwen2_moe", "qwen3_moe", "olmoe",
                                         "gpt_oss", "glm4_moe", "deepseek_v3", "qwen3_5"),
                       ::testing::Values("float32", "bfloat16")),
    [](const auto& info) {
      return absl::StrCat(std::get<1>(info.param), "_tp", std::get<0>(info.param), "_",
                          std::get<2>(info.param));
    });

/// tests/goldens/families: formula weights, which need no file.
std::vector<std::string> SharedOwnFamilies() {
  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::directory_iterator(kSource + "/tests/goldens/families")) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class SharedOwnFamily : public ::testing::TestWithParam<std::tuple<int32_t, std::string>> {};

TEST_P(SharedOwnFamily, EveryWayMeetsTheReference) {
  const auto& [ranks, family] = GetParam();
  ExpectShared(kSource + "/tests/goldens/families/" + family, family, ranks, DType::kFloat32,
               {.weights = "formula"});
}

INSTANTIATE_TEST_SUITE_P(Ranks, SharedOwnFamily,
                         ::testing::Combine(::testing::Values(2, 4),
                                            ::testing::ValuesIn(SharedOwnFamilies())),
                         [](const auto& info) {
                           return absl::StrCat(std::get<1>(info.param), "_tp",
                                               std::get<0>(info.param));
                         });

class SharedForm : public ::testing::TestWithParam<std::tuple<int32_t, std::string>> {};

TEST_P(SharedForm, EveryWayMeetsTheReference) {
  const auto& [ranks, form] = GetParam();
  const std::string dir = kShared + "quantized/" + form;
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << dir << " is not there";
  ExpectShared(dir, form, ranks, DType::kFloat32);
}

INSTANTIATE_TEST_SUITE_P(
    Ranks, SharedForm,
    ::testing::Values(std::tuple(2, "gptq-4bit"), std::tuple(4, "gptq-4bit"),
                      std::tuple(2, "awq-4bit"), std::tuple(4, "awq-4bit"),
                      std::tuple(2, "ct-w8a8-int8"), std::tuple(4, "ct-w8a8-int8"),
                      std::tuple(2, "ct-w4a16-g32"), std::tuple(4, "ct-w4a16-g32"),
                      std::tuple(2, "ct-fp8-channel"), std::tuple(4, "ct-fp8-channel"),
                      std::tuple(2, "fp8-block128")),
    [](const auto& info) {
      std::string name = absl::StrCat(std::get<1>(info.param), "_tp", std::get<0>(info.param));
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

/// Codes that ranks would cut within a group, or that have no groups in order.
class UnsharedForm
    : public ::testing::TestWithParam<std::tuple<int32_t, std::string, std::string>> {};

TEST_P(UnsharedForm, IsRefusedWithTheTensorAndTheReason) {
  const auto& [ranks, form, reason] = GetParam();
  const std::string dir = kShared + "quantized/" + form;
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << dir << " is not there";
  WorkerPool pool(2);
  const absl::Status status = LoadShared(dir, ranks, &pool).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(status.message(), HasSubstr(absl::StrCat("tensor_parallel: ", ranks, ", rank 0: ")));
  EXPECT_THAT(status.message(), HasSubstr(reason));
}

INSTANTIATE_TEST_SUITE_P(
    Ranks, UnsharedForm,
    ::testing::Values(std::tuple(2, "gptq-4bit-actorder", "act-order"),
                      std::tuple(2, "mxfp4-gpt-oss", "down_proj: columns 0 to 48 are a rank's"),
                      std::tuple(4, "fp8-block128", "o_proj: columns 0 to 64 are a rank's")),
    [](const auto& info) {
      std::string name = std::get<1>(info.param);
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

/// Rounded at load: ranks have the codes of the whole model, and round their own inputs.
class SharedRounding : public ::testing::TestWithParam<std::string> {};

TEST_P(SharedRounding, IsAsFarFromTheReferenceAsTheWholeModelIs) {
  WorkerPool pool(2);
  const std::string dir = kSource + "/models/demo";
  const Loading rounded{.quantize = GetParam()};
  const auto whole = LoadShared(dir, 1, &pool, rounded);
  ASSERT_TRUE(whole.ok()) << whole.status();
  auto prompts = LoadGolden(dir + "/golden.safetensors", (*whole)->config.vocab_size);
  ASSERT_TRUE(prompts.ok());
  for (GoldenPrompt& prompt : *prompts) {
    prompt.greedy.clear();
    prompt.gap.clear();
  }
  const std::vector<std::string> ways = {"chunk7"};
  const auto alone = CheckGolden(whole->get(), DType::kFloat32, *prompts, {}, ways);
  ASSERT_TRUE(alone.ok()) << alone.status();
  for (const int32_t ranks : {2, 4}) {
    const auto shared = LoadShared(dir, ranks, &pool, rounded);
    if (704 / ranks % 32 != 0 && GetParam() != "int8-channel") {
      EXPECT_THAT(shared.status().message(), HasSubstr("border of its groups"));
      continue;
    }
    ASSERT_TRUE(shared.ok()) << shared.status();
    const auto report = CheckGolden(shared->get(), DType::kFloat32, *prompts, {}, ways);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_LE(report->median, 1.25 * alone->median) << ranks;
    EXPECT_LE(report->p90, 1.25 * alone->p90) << ranks;
    for (const GoldenResult& r : report->results) EXPECT_TRUE(r.same_bits) << r.way;
  }
}

INSTANTIATE_TEST_SUITE_P(Rules, SharedRounding, ::testing::Values("int8", "int8-channel", "int4"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

std::vector<TokenId> Greedy(LoadedModel* model, const std::vector<TokenId>& prompt, int32_t count) {
  RunnerOptions options;
  options.kv_bytes = 64 << 20;
  options.num_slots = 2;
  auto runner = ModelRunner::Make(model, options);
  CHECK(runner.ok());
  RunnerDriver driver(runner->get());
  DrivenSequence s = driver.Begin(prompt, false);
  CHECK(driver.Run(s, 32, count).ok());
  return s.tokens;
}

TEST(SharedDemoAnswers, OfRanksAreThoseOfTheWholeModel) {
  WorkerPool pool(2);
  const std::string dir = kSource + "/models/demo";
  const auto whole = LoadShared(dir, 1, &pool);
  ASSERT_TRUE(whole.ok()) << whole.status();
  const auto prompts = LoadGolden(dir + "/golden.safetensors", (*whole)->config.vocab_size);
  ASSERT_TRUE(prompts.ok());
  for (const int32_t ranks : {2, 4}) {
    const auto shared = LoadShared(dir, ranks, &pool);
    ASSERT_TRUE(shared.ok()) << shared.status();
    for (const GoldenPrompt& prompt : *prompts) {
      EXPECT_EQ(Greedy(shared->get(), prompt.ids, 48), Greedy(whole->get(), prompt.ids, 48));
    }
  }
}

}  // namespace
}  // namespace penstock
