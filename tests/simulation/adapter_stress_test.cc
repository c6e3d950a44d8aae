// Clients who name, load and unload adapters all at once, on a real engine over a fake executor,
// which dies of a step with an adapter that is not there or with too many of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "engine/engine_loop.h"
#include "fakes/fake_executor.h"
#include "fakes/safetensors_writer.h"
#include "service/adapter_registry.h"
#include "test_seed.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

constexpr int kClients = 6;
constexpr int kRequests = 300;
constexpr int kPlaces = 2;

class CountingSink final : public TokenSink {
 public:
  void OnTokens(absl::Span<const SampledToken> tokens) override {
    for (const SampledToken& token : tokens) ids.push_back(token.id);
  }
  void OnOutput(const RequestOutput&) override {}
  void OnDone(FinishReason, const Usage&, absl::Status status) override {
    done.set_value(std::move(status));
  }
  std::vector<TokenId> ids;
  std::promise<absl::Status> done;
};

class AdapterStress : public ::testing::TestWithParam<int> {
 protected:
  AdapterStress() {
    limits_.groups = {{CacheRetention::kFull, 0, 1024, 64}};
    limits_.num_slots = 8;
    limits_.pipeline_depth = GetParam();
    limits_.max_step_tokens = 64;
    limits_.max_context = 128;
    limits_.vocab_size = 500;
    limits_.max_adapters = 2;
    for (const char* name : {"a", "b", "c", "d", "e"}) {
      fs::create_directory(temp_.path() + "/" + name);
      for (const char* file : {"adapter_config.json", "adapter_model.safetensors"})
        std::ofstream(temp_.path() + "/" + name + "/" + file) << name;
    }
    EngineOptions options;
    options.clock = &SystemClock::Get();
    engine_ = std::make_unique<EngineLoop>(std::make_unique<FakeExecutor>(limits_), options);
    auto base = std::make_shared<ServedModel>();
    base->name = "base";
    base->engine = engine_.get();
    AdapterPoolParts parts;
    parts.base = base;
    parts.lora.dir = temp_.path();
    parts.lora.max_adapters = 2;
    parts.lora.max_host_adapters = kPlaces;
    parts.lora.allow_runtime = true;
    parts.read = [this](AdapterId id, const std::string& dir) {
      const std::lock_guard lock(mutex_);
      read_[id] = fs::path(dir).filename();
      return absl::OkStatus();
    };
    registry_ = std::make_unique<AdapterRegistry>(
        std::vector<std::shared_ptr<const ServedModel>>{base},
        std::vector<std::shared_ptr<AdapterPool>>{std::make_shared<AdapterPool>(std::move(parts))});
    engine_->Start();
  }

  /// One request as a front end makes it; the status of its end.
  absl::Status Ask(const std::string& name, uint64_t id, std::mt19937_64& random) {
    const auto model = registry_->FindToServe(name);
    if (!model.ok()) return model.status();
    if (*model == nullptr) return absl::NotFoundError(name);
    GenerateRequest request;
    request.prompt.resize(1 + random() % 40);
    for (TokenId& token : request.prompt) token = static_cast<TokenId>(random() % 3);
    request.max_tokens = static_cast<int32_t>(1 + random() % 20);
    request.adapter = (*model)->adapter;
    if (name != "base" && name != "mine") {
      const std::lock_guard lock(mutex_);
      EXPECT_EQ(read_.at(request.adapter), name);
    }
    auto sink = std::make_shared<CountingSink>();
    RETURN_IF_ERROR((*model)->engine->Submit(RequestId{id}, request, sink));
    if (random() % 10 == 0) (*model)->engine->Cancel(RequestId{id});
    RETURN_IF_ERROR(sink->done.get_future().get());
    std::vector<TokenId> history = request.prompt;
    for (const TokenId token : sink->ids) {
      EXPECT_EQ(token, FakeExecutor::NextToken(limits_, history, request.adapter));
      history.push_back(token);
    }
    return absl::OkStatus();
  }

  TempDir temp_;
  ExecutorLimits limits_;
  std::unique_ptr<EngineLoop> engine_;
  std::unique_ptr<AdapterRegistry> registry_;
  std::mutex mutex_;
  std::map<AdapterId, std::string> read_;  // which adapter a number is
};

TEST_P(AdapterStress, EveryoneIsAnsweredWithTheAdapterThatWasNamed) {
  std::atomic<int> num_answered{0}, num_full{0}, num_gone{0};
  std::atomic<bool> over{false};
  const uint64_t seed = TestSeed();
  std::vector<std::thread> clients;
  for (int c = 0; c < kClients; ++c) {
    clients.emplace_back([&, c] {
      std::mt19937_64 random(seed + c);
      const std::string names[] = {"a", "b", "c", "d", "e", "base", "mine"};
      for (int i = 0; i < kRequests; ++i) {
        const std::string& name = names[random() % std::size(names)];
        const absl::Status status = Ask(name, uint64_t{1} + c * kRequests + i, random);
        if (status.ok()) {
          ++num_answered;
        } else if (status.code() == absl::StatusCode::kResourceExhausted) {
          ++num_full;
        } else {
          EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
          EXPECT_EQ(name, "mine") << status;
          ++num_gone;
        }
      }
    });
  }
  std::thread loader([&] {
    std::mt19937_64 random(seed);
    while (!over) {
      const std::string path(1, static_cast<char>('a' + random() % 5));
      const absl::Status loaded = registry_->Load(std::nullopt, "mine", path, random() % 2 == 0);
      EXPECT_TRUE(loaded.ok() || loaded.code() == absl::StatusCode::kInvalidArgument ||
                  loaded.code() == absl::StatusCode::kResourceExhausted)
          << loaded;
      registry_->List();
      if (random() % 2 == 0) continue;
      std::promise<void> gone;
      registry_->Unload("mine", [&](const absl::Status&) { gone.set_value(); });
      gone.get_future().wait();
    }
  });
  for (std::thread& client : clients) client.join();
  over = true;
  loader.join();
  EXPECT_GT(num_answered, kClients * kRequests / 4);
  EXPECT_GT(read_.size(), 50u) << "the scenario does not press";
  std::printf("answered %d, no room %d, gone %d, loads %zu\n", num_answered.load(), num_full.load(),
              num_gone.load(), read_.size());
  // Nothing is left: as many adapters as there are places fit again.
  const auto a = registry_->FindToServe("a");
  const auto b = registry_->FindToServe("b");
  EXPECT_TRUE(a.ok() && b.ok());
}

INSTANTIATE_TEST_SUITE_P(Depths, AdapterStress, ::testing::Values(1, 2));

}  // namespace
}  // namespace penstock
