// Names of adapters: what is in memory, who goes, what clients may load. Weights are a set of
// numbers here.
#include "service/adapter_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "fakes/fake_engine.h"
#include "fakes/safetensors_writer.h"
#include "metrics/catalogue.h"
#include "service/adapter_registry.h"
#include "service/call_error.h"

namespace penstock {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

class AdapterPoolTest : public ::testing::Test {
 protected:
  AdapterPoolTest() {
    fs::create_directory(folder());
    for (const char* name : {"a", "b", "c", "sub/d"}) MakeDir(folder() / name);
    MakeDir(outside());
    base_->name = "base";
    base_->aliases = {"other"};
    base_->engine = &engine_;
    base_->max_context = 77;
    lora_.dir = folder();
    lora_.max_adapters = 1;
    lora_.max_host_adapters = 2;
    lora_.allow_runtime = true;
  }
  fs::path folder() const { return fs::path(temp_.path()) / "adapters"; }
  fs::path outside() const { return fs::path(temp_.path()) / "outside"; }
  static void MakeDir(const fs::path& dir) {
    fs::create_directories(dir);
    for (const char* file : {"adapter_config.json", "adapter_model.safetensors"})
      std::ofstream(dir / file) << dir;
  }
  std::shared_ptr<AdapterPool> Make() {
    AdapterPoolParts parts;
    parts.base = base_;
    parts.lora = lora_;
    parts.read = [this](AdapterId id, const std::string& dir) {
      if (!read_status_.ok()) return read_status_;
      EXPECT_TRUE(ids_.insert(id).second) << "a number was given twice";
      dirs_.push_back(fs::path(dir).filename());
      return absl::OkStatus();
    };
    parts.report = [this](std::string_view what, std::string_view name, std::string_view) {
      if (what == "adapter evicted") evicted_.emplace_back(name);
    };
    return std::make_shared<AdapterPool>(std::move(parts));
  }
  static AdapterPool::Model Get(AdapterPool& pool, std::string_view name) {
    auto found = pool.FindToServe(name);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() ? *found : nullptr;
  }
  static absl::Status Unload(AdapterPool& pool, const std::string& name) {
    absl::Status reported = absl::UnknownError("not yet");
    pool.Unload(name, [&](absl::Status status) { reported = std::move(status); });
    return reported;
  }

  TempDir temp_;
  FakeEngine engine_;
  std::shared_ptr<ServedModel> base_ = std::make_shared<ServedModel>();
  LoraConfig lora_;
  absl::Status read_status_;
  std::set<AdapterId> ids_;
  std::vector<std::string> dirs_, evicted_;
};

TEST_F(AdapterPoolTest, AnAdapterIsItsBaseUnderAnotherName) {
  const auto pool = Make();
  EXPECT_EQ(pool->Find("a"), nullptr);
  const auto model = Get(*pool, "a");
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->name, "a");
  EXPECT_EQ(model->parent, "base");
  EXPECT_TRUE(model->aliases.empty());
  EXPECT_EQ(model->max_context, 77);
  EXPECT_EQ(model->engine, &engine_);
  EXPECT_EQ(model->adapter, AdapterId(0));
  EXPECT_EQ(Get(*pool, "a"), model);
  EXPECT_EQ(pool->Find("a"), model);
  EXPECT_EQ(Get(*pool, "sub/d")->adapter, AdapterId(1));
  const auto commands = engine_.commands();
  ASSERT_EQ(commands.size(), 2u);
  EXPECT_EQ(commands[1].kind, CommandKind::kLoadAdapter);
  EXPECT_EQ(commands[1].adapter, AdapterId(1));
  EXPECT_EQ(commands[1].path, fs::canonical(folder() / "sub/d").string());
}

TEST_F(AdapterPoolTest, TheLeastRecentlyUsedGoesAndComesBack) {
  const auto pool = Make();
  Get(*pool, "a");
  Get(*pool, "b");
  Get(*pool, "a");
  Get(*pool, "c");
  EXPECT_THAT(evicted_, ElementsAre("b"));
  EXPECT_EQ(pool->Find("b"), nullptr);
  EXPECT_EQ(Get(*pool, "b")->adapter, AdapterId(3));
  EXPECT_THAT(evicted_, ElementsAre("b", "a"));
  EXPECT_THAT(dirs_, ElementsAre("a", "b", "c", "b"));
}

TEST_F(AdapterPoolTest, WhoIsInUseStays) {
  const auto pool = Make();
  const auto a = Get(*pool, "a");
  auto b = Get(*pool, "b");
  const auto refused = pool->FindToServe("c");
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(refused.status().ToString(), HasSubstr("all 2 adapters"));
  b = nullptr;
  EXPECT_NE(Get(*pool, "c"), nullptr);
  EXPECT_THAT(evicted_, ElementsAre("b"));
}

TEST_F(AdapterPoolTest, ConfiguredOnesStayKnownWithoutTheirWeights) {
  lora_.adapters = {{"mine", outside()}, {"a", folder() / "c"}};
  const auto pool = Make();
  ASSERT_EQ(pool->LoadConfigured(), absl::OkStatus());
  EXPECT_THAT(dirs_, ElementsAre("c", "outside"));
  Get(*pool, "b");
  EXPECT_THAT(evicted_, ElementsAre("a"));
  EXPECT_NE(pool->Find("a"), nullptr);
  EXPECT_EQ(pool->List().size(), 3u);
  EXPECT_EQ(Get(*pool, "a")->adapter, AdapterId(3));
  EXPECT_EQ(dirs_.back(), "c");
  read_status_ = absl::InvalidArgumentError("rank 99");
  lora_.adapters = {{"mine", outside()}};
  EXPECT_THAT(Make()->LoadConfigured().ToString(), HasSubstr("lora.adapters.mine: rank 99"));
}

TEST_F(AdapterPoolTest, NothingOutsideTheFolderIsFound) {
  fs::create_directory_symlink(outside(), folder() / "link");
  fs::create_directory_symlink(folder() / "a", folder() / "inside");
  fs::create_directory(folder() / "file_link");
  std::ofstream(folder() / "file_link/adapter_config.json") << "{}";
  fs::create_symlink(outside() / "adapter_model.safetensors",
                     folder() / "file_link/adapter_model.safetensors");
  fs::create_directory(folder() / "half");
  std::ofstream(folder() / "half/adapter_config.json") << "{}";
  fs::create_directory(temp_.path() + "/adapters2");
  MakeDir(temp_.path() + "/adapters2/x");
  const auto pool = Make();
  const std::string kept = outside();
  for (const std::string& path :
       {std::string(), std::string("."), std::string(".."), std::string("../outside"),
        std::string("a/../../outside"), std::string("../adapters2/x"), std::string("link"),
        std::string("file_link"), std::string("half"), std::string("nobody"), kept,
        std::string("a\0b", 3), std::string("a\nb"), std::string("\xff"), std::string(600, 'x')}) {
    EXPECT_EQ(Get(*pool, path), nullptr) << path;
    EXPECT_EQ(pool->Load("new", path, false).code(), absl::StatusCode::kNotFound) << path;
  }
  EXPECT_TRUE(dirs_.empty());
  EXPECT_NE(Get(*pool, "inside"), nullptr);
  // Requests write an adapter's name in one way; loading takes every way that leads inside.
  const std::string absolute = folder() / "b";
  for (const std::string& path :
       {absolute, std::string("./b"), std::string("a/../b"), std::string("b/"), std::string("b//"),
        std::string("sub//d"), std::string("sub/./d")}) {
    EXPECT_EQ(Get(*pool, path), nullptr) << path;
  }
  EXPECT_EQ(pool->Load("new", "a/../b", false), absl::OkStatus());
  lora_.dir = "";
  EXPECT_EQ(Get(*Make(), "a"), nullptr);
}

TEST_F(AdapterPoolTest, WhatBecameALinkOutOfTheFolderDoesNotComeBack) {
  lora_.max_host_adapters = 1;
  const auto pool = Make();
  ASSERT_EQ(pool->Load("x", "a", false), absl::OkStatus());
  EXPECT_NE(Get(*pool, "b"), nullptr);
  EXPECT_THAT(evicted_, ElementsAre("x"));
  EXPECT_NE(Get(*pool, "x"), nullptr);
  EXPECT_NE(Get(*pool, "b"), nullptr);
  fs::remove_all(folder() / "a");
  fs::create_directory_symlink(outside(), folder() / "a");
  EXPECT_EQ(Get(*pool, "x"), nullptr);
  EXPECT_EQ(std::count(dirs_.begin(), dirs_.end(), "outside"), 0);
}

TEST_F(AdapterPoolTest, ClientsLoadAndUnloadWhereTheyMay) {
  const auto pool = Make();
  EXPECT_EQ(pool->Load("x", "a", false), absl::OkStatus());
  EXPECT_EQ(Get(*pool, "x")->adapter, AdapterId(0));
  const absl::Status again = pool->Load("x", "b", false);
  EXPECT_EQ(FieldOf(again), "lora_name");
  EXPECT_THAT(again.ToString(), HasSubstr("loaded already"));
  EXPECT_EQ(pool->Load("x", "b", true), absl::OkStatus());
  EXPECT_EQ(Get(*pool, "x")->adapter, AdapterId(1));
  EXPECT_EQ(engine_.commands().back().kind, CommandKind::kUnloadAdapter);
  EXPECT_EQ(engine_.commands().back().adapter, AdapterId(0));
  EXPECT_EQ(Unload(*pool, "x"), absl::OkStatus());
  EXPECT_EQ(pool->Find("x"), nullptr);
  EXPECT_EQ(Unload(*pool, "x").code(), absl::StatusCode::kNotFound);
  read_status_ = absl::UnimplementedError(
      absl::StrCat(fs::canonical(folder() / "c").string(), "/adapter_config.json: use_dora"));
  const absl::Status unfit = pool->Load("x", "c", false);
  EXPECT_EQ(unfit.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(unfit), "lora_path");
  EXPECT_THAT(unfit.ToString(), HasSubstr("cannot be used: adapter_config.json: use_dora"));
  EXPECT_EQ(pool->Find("x"), nullptr);
  lora_.allow_runtime = false;
  const auto closed = Make();
  EXPECT_EQ(closed->Load("x", "a", false).code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Unload(*closed, "x").code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(AdapterPoolTest, WhatIsOnItsWayOutTakesRoomUntilItIsGone) {
  const auto pool = Make();
  engine_.HoldUnloads();
  ASSERT_EQ(pool->Load("x", "a", false), absl::OkStatus());
  ASSERT_EQ(pool->Load("y", "b", false), absl::OkStatus());
  const auto x = Get(*pool, "x");
  int reported = 0;
  pool->Unload("x", [&](const absl::Status&) { ++reported; });
  pool->Unload("y", [&](const absl::Status&) { ++reported; });
  EXPECT_EQ(reported, 0);
  EXPECT_EQ(Get(*pool, "x"), nullptr);
  EXPECT_EQ(pool->FindToServe("c").status().code(), absl::StatusCode::kResourceExhausted);
  engine_.ReportUnloads();
  EXPECT_EQ(reported, 2);
  EXPECT_NE(Get(*pool, "c"), nullptr);
}

TEST_F(AdapterPoolTest, OneThatMadeRoomForItsSuccessorGoesOnce) {
  lora_.max_host_adapters = 1;
  const auto pool = Make();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(pool->Load("x", "a", true), absl::OkStatus());
  const auto unloads = [&] {
    const auto commands = engine_.commands();
    return std::count_if(commands.begin(), commands.end(), [](const Command& command) {
      return command.kind == CommandKind::kUnloadAdapter;
    });
  };
  EXPECT_EQ(unloads(), 4);
  const auto x = Get(*pool, "x");  // in use, and there is but one place
  EXPECT_EQ(pool->Load("x", "b", true).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Get(*pool, "x"), x);
}

TEST_F(AdapterPoolTest, AFailedLoadTakesNoRoom) {
  const auto pool = Make();
  read_status_ = absl::InvalidArgumentError("bad");
  for (int i = 0; i < 5; ++i) {
    const auto refused = pool->FindToServe("a");
    EXPECT_EQ(FieldOf(refused.status()), "model");
  }
  read_status_ = absl::OkStatus();
  EXPECT_NE(Get(*pool, "a"), nullptr);
  EXPECT_NE(Get(*pool, "b"), nullptr);
  EXPECT_TRUE(evicted_.empty());
}

TEST_F(AdapterPoolTest, ARegistryHasModelsAndTheirAdapters) {
  auto second = std::make_shared<ServedModel>(*base_);
  second->name = "second";
  second->aliases.clear();
  const auto pool = Make();
  lora_.allow_runtime = false;
  auto kept_base = std::exchange(base_, second);
  const auto closed = Make();
  const AdapterRegistry registry({kept_base, second}, {pool, closed});
  EXPECT_EQ(registry.Find("other"), kept_base);
  EXPECT_EQ(registry.Find("a"), nullptr);
  EXPECT_EQ((*registry.FindToServe("a"))->parent, "base");
  EXPECT_EQ(*registry.FindToServe("nobody"), nullptr);
  EXPECT_EQ(registry.List().size(), 3u);
  // The only model that takes adapters from clients is meant.
  EXPECT_EQ(registry.Load(std::nullopt, "x", "b", false), absl::OkStatus());
  EXPECT_EQ(registry.Load("second", "y", "b", false).code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(FieldOf(registry.Load("nobody", "y", "b", false)), "base_model_name");
  for (const char* taken : {"second", "other", "base"})
    EXPECT_EQ(FieldOf(registry.Load("base", taken, "b", false)), "lora_name") << taken;
  Catalogue catalogue("1");
  registry.Export(catalogue, absl::FromUnixSeconds(5));
  EXPECT_THAT(catalogue.Text(), HasSubstr("vllm:lora_requests_info{engine=\"0\",max_lora=\"1\","));
  absl::Status status;
  registry.Unload("x", [&](absl::Status s) { status = std::move(s); });
  EXPECT_EQ(status, absl::OkStatus());
  registry.Unload("x", [&](absl::Status s) { status = std::move(s); });
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
}

TEST_F(AdapterPoolTest, AliasesOfOperatorsMeanAdaptersToo) {
  const auto pool = Make();
  AdapterRegistry registry({base_}, {pool});
  ASSERT_EQ(registry.Load(std::nullopt, "x", "a", false), absl::OkStatus());
  registry.SetPointers({{"live", "x"}, {"c", "x"}, {"later", "b"}});
  EXPECT_EQ(*registry.FindToServe("live"), pool->Find("x"));
  EXPECT_EQ(registry.Find("live"), pool->Find("x"));
  EXPECT_THAT(registry.List().back()->aliases, ElementsAre("c", "live"));
  // The alias goes before what lies in lora.dir under its name, but not before what is loaded.
  EXPECT_EQ((*registry.FindToServe("c"))->name, "x");
  EXPECT_EQ(FieldOf(registry.Load(std::nullopt, "live", "b", false)), "lora_name");
  EXPECT_EQ(registry.Find("later"), nullptr);
  EXPECT_EQ((*registry.FindToServe("later"))->name, "b") << "brought for the alias";
  EXPECT_EQ(registry.Find("later")->name, "b");
  registry.Unload("live", [](absl::Status s) { EXPECT_EQ(s.code(), absl::StatusCode::kNotFound); });
  registry.Unload("x", [](const absl::Status& s) { EXPECT_EQ(s, absl::OkStatus()); });
  EXPECT_EQ(registry.Find("live"), nullptr);
  EXPECT_EQ((*registry.FindToServe("x")), nullptr);
}

}  // namespace
}  // namespace penstock
