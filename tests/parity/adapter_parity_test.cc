// Low-rank adapters against the models that PEFT merged them into.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <tuple>

#include "executor/adapter_store.h"
#include "executor/golden_check.h"
#include "executor/runner_driver.h"
#include "fakes/safetensors_writer.h"
#include "format/json_text.h"
#include "model/adapter_config.h"
#include "parity/missing_device.h"

namespace penstock {
namespace {

const std::string kGoldens = std::string(PENSTOCK_SOURCE_DIR) + "/tests/goldens/";

std::string CaseDir(const std::string& name) { return kGoldens + "adapters/" + name; }

nlohmann::json ReadJsonFile(const std::string& path) {
  const auto text = ReadTextFile(path, 1 << 20);
  EXPECT_TRUE(text.ok()) << text.status();
  return *ParseJson(*text, path);
}

/// Null where there is no such device.
std::unique_ptr<LoadedModel> LoadFamily(const std::string& name, WorkerPool* pool,
                                        const std::string& device = "cpu") {
  LoadOptions load;
  load.device = device;
  load.model_dir = kGoldens + "families/" +
                   ReadJsonFile(CaseDir(name) + "/case.json")["family"].get<std::string>();
  load.weights = "formula";
  load.pool = pool;
  load.deterministic = "strict";  // every way gives equal bits
  auto model = LoadModel(load);
  if (absl::IsUnavailable(model.status())) return nullptr;
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

std::shared_ptr<AdapterStore> MakeStore(const LoadedModel& model, WorkerPool* pool,
                                        int64_t host_bytes = 64 << 20) {
  AdapterOptions options;
  options.max_adapters = 4;
  options.max_in_step = 4;
  options.bounds = {kMaxAdapterRank, /*experts=*/true};
  options.numbers = model.abilities.numbers;
  options.host_bytes = host_bytes;
  options.pool = pool;
  auto store = AdapterStore::Make(model.config, *model.device, options);
  EXPECT_TRUE(store.ok()) << store.status();
  return *std::move(store);
}

/// An adapter like another one, but with other strengths.
void WriteAltered(const std::string& from, const TempDir& to) {
  nlohmann::json config = ReadJsonFile(from + "/adapter_config.json");
  config["lora_alpha"] = -3;
  config["alpha_pattern"] = nlohmann::json::object();
  to.Write("adapter_config.json", config.dump());
  std::filesystem::copy(from + "/adapter_model.safetensors",
                        to.path() + "/adapter_model.safetensors");
}

/// The case's adapter as its own, and an altered one beside it.
void LoadWithStranger(const std::string& name, const LoadedModel& model, WorkerPool* pool,
                      GoldenAdapters& adapters) {
  adapters.store = MakeStore(model, pool);
  const TempDir altered;
  WriteAltered(CaseDir(name), altered);
  adapters.own = AdapterId(0);
  adapters.strangers = {AdapterId(1), kNoAdapter, AdapterId(0)};
  ASSERT_EQ(adapters.store->Load(AdapterId(0), CaseDir(name)), absl::OkStatus());
  ASSERT_EQ(adapters.store->Load(AdapterId(1), altered.path()), absl::OkStatus());
  const auto own = adapters.store->Find(AdapterId(0));
  EXPECT_LE(own->num_bytes, MaxAdapterBytes(model.config, {own->rank, /*experts=*/true}));
}

std::vector<std::string> Cases() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kGoldens + "adapters"))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

class AdapterGolden : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(AdapterGolden, EveryWayMeetsTheMergedModel) {
  const auto& [name, dtype] = GetParam();
  WorkerPool pool(2);
  const auto model = LoadFamily(name, &pool);
  GoldenAdapters adapters;
  ASSERT_NO_FATAL_FAILURE(LoadWithStranger(name, *model, &pool, adapters));
  const auto prompts = LoadGolden(CaseDir(name) + "/golden.safetensors", model->config.vocab_size);
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  const auto report = CheckGolden(
      model.get(), dtype == "float32" ? DType::kFloat32 : DType::kBFloat16, *prompts, adapters);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->results.size(), 7 * prompts->size());
  for (const GoldenResult& r : report->results) {
    EXPECT_TRUE(r.passed) << "prompt " << r.prompt << ", " << r.way << ": error " << r.error
                          << ", greedy " << r.greedy_equal << " of " << r.greedy_required
                          << ", bits " << r.same_bits;
  }
  EXPECT_TRUE(report->passed) << "median " << report->median << ", 90th percentile " << report->p90;
}

INSTANTIATE_TEST_SUITE_P(Cases, AdapterGolden,
                         ::testing::Combine(::testing::ValuesIn(Cases()),
                                            ::testing::Values("float32", "bfloat16")),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param);
                         });

using DeviceCase = std::tuple<std::string, std::string>;  // device, family
class DeviceAdapterGolden : public ::testing::TestWithParam<DeviceCase> {};

/// The longest prompt, alone and beside others.
TEST_P(DeviceAdapterGolden, MeetsTheMergedModel) {
  const auto& [device, name] = GetParam();
  WorkerPool pool(2);
  const auto model = LoadFamily(name, &pool, device);
  PENSTOCK_NEEDS_DEVICE(device, model == nullptr, "this build or machine has no " + device);
  GoldenAdapters adapters;
  ASSERT_NO_FATAL_FAILURE(LoadWithStranger(name, *model, &pool, adapters));
  auto prompts = LoadGolden(CaseDir(name) + "/golden.safetensors", model->config.vocab_size);
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  GoldenPrompt prompt = *std::max_element(
      prompts->begin(), prompts->end(),
      [](const GoldenPrompt& a, const GoldenPrompt& b) { return a.ids.size() < b.ids.size(); });
  prompt.greedy.clear();
  prompt.gap.clear();
  const std::vector<std::string> ways = {"chunk7", "batched"}, alone = {"whole"};
  const auto report = CheckGolden(model.get(), DType::kBFloat16, {prompt}, adapters, ways);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->results.size(), 3u);
  for (const GoldenResult& r : report->results)
    EXPECT_TRUE(r.passed) << r.way << ": error " << r.error << ", bits " << r.same_bits;
  EXPECT_TRUE(report->passed) << "median " << report->median << ", 90th percentile " << report->p90;
  // Without the adapter it is another model.
  adapters.own = kNoAdapter;
  const auto plain = CheckGolden(model.get(), DType::kBFloat16, {prompt}, adapters, alone);
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_FALSE(plain->passed);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, DeviceAdapterGolden,
    ::testing::Combine(::testing::Values("cuda-emulated", "cuda"),
                       ::testing::Values("llama", "phi3", "glm4", "gpt_neox", "qwen3_5",
                                         "gemma2_head", "qwen3_next", "qwen2_moe_shared",
                                         "mixtral_experts", "deepseek_v3_latent",
                                         "gemma_embedding")),
    [](const auto& info) {
      const bool emulated = std::get<0>(info.param) == "cuda-emulated";
      return (emulated ? "cuda_emulated_" : "cuda_") + std::get<1>(info.param);
    });

/// One that made room on a device with a memory of its own comes back from the host's.
TEST(Adapters, ComeBackWithoutTheirDisk) {
  WorkerPool pool(2);
  const auto model = LoadFamily("llama", &pool, "cuda-emulated");
  if (model == nullptr) GTEST_SKIP() << "this build has no cuda-emulated";
  namespace fs = std::filesystem;
  const TempDir dir;
  const fs::path file = fs::path(dir.path()) / "adapter_model.safetensors";
  fs::copy(CaseDir("llama"), dir.path(), fs::copy_options::recursive);
  const auto spoil = [&] {
    const auto time = fs::last_write_time(file);
    dir.Write(file.filename(), std::string(fs::file_size(file), 'x'));
    fs::last_write_time(file, time);
  };
  const auto store = MakeStore(*model, &pool), without = MakeStore(*model, &pool, /*host_bytes=*/0);
  ASSERT_EQ(store->Load(AdapterId(0), dir.path()), absl::OkStatus());
  ASSERT_EQ(without->Load(AdapterId(0), dir.path()), absl::OkStatus());
  store->Remove(AdapterId(0));
  spoil();
  EXPECT_EQ(store->Load(AdapterId(1), dir.path()), absl::OkStatus());
  EXPECT_NE(without->Load(AdapterId(1), dir.path()), absl::OkStatus());
  fs::last_write_time(file, fs::last_write_time(file) + std::chrono::seconds(1));
  EXPECT_NE(store->Load(AdapterId(2), dir.path()), absl::OkStatus());
}

/// Rows without an adapter have the bits of a model that knows of none, whoever is beside them.
TEST(Adapters, LeaveRowsWithoutOneAsTheyWere) {
  WorkerPool pool(2);
  const auto model = LoadFamily("llama", &pool);
  const auto store = MakeStore(*model, &pool);
  ASSERT_EQ(store->Load(AdapterId(7), CaseDir("llama")), absl::OkStatus());
  ASSERT_EQ(store->Load(AdapterId(8), CaseDir("llama_other")), absl::OkStatus());
  RunnerOptions options;
  options.kv_bytes = 16 << 20;
  options.num_slots = 4;
  const auto prompts = LoadGolden(CaseDir("llama") + "/golden.safetensors", 61);
  ASSERT_TRUE(prompts.ok());
  const std::vector<TokenId>& ids = prompts->back().ids;
  const auto run = [&](std::shared_ptr<AdapterStore> adapters, bool crowded) {
    options.adapters = std::move(adapters);
    auto runner = ModelRunner::Make(model.get(), options);
    EXPECT_TRUE(runner.ok()) << runner.status();
    RunnerDriver driver(runner->get());
    DrivenSequence first = driver.Begin(ids, false, crowded ? AdapterId(8) : kNoAdapter);
    DrivenSequence plain = driver.Begin(ids, true);
    DrivenSequence last = driver.Begin(ids, false, crowded ? AdapterId(7) : kNoAdapter);
    const auto length = static_cast<int32_t>(ids.size());
    EXPECT_EQ(driver.Step({{&first, length}, {&plain, length}, {&last, length}}), absl::OkStatus());
    if (crowded) {
      EXPECT_NE(first.tokens.back(), last.tokens.back());
    }
    return plain.logits;
  };
  const std::vector<float> without = run(nullptr, false);
  EXPECT_EQ(run(store, true), without);
  EXPECT_EQ(run(store, false), without);
}

TEST(Adapters, SomeFamilyOfEachLayoutIsAmongTheCases) {
  EXPECT_THAT(Cases(), ::testing::IsSupersetOf({"llama", "phi3", "glm4", "gpt2", "gpt_neox"}));
}

}  // namespace
}  // namespace penstock
