// Everything of Talk around a FakeEngine: one model "demo" (alias "alias") with byte tokens.
// Owns its parts. Must not know the front end under test.
// Threads: for one test.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "fakes/fake_engine.h"
#include "fakes/fake_tokenizer.h"
#include "metrics/catalogue.h"
#include "service/generation_service.h"
#include "service/model_registry.h"
#include "service/recent_errors.h"

namespace penstock {

class RecordingLog final : public RequestLog {
 public:
  void Record(const RequestRecord& record) override {
    std::lock_guard lock(mutex_);
    records_.push_back(record);
    changed_.notify_all();
  }
  /// The first `count` records; fewer after kPatience.
  std::vector<RequestRecord> Wait(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kPatience, [&] { return records_.size() >= count; });
    return records_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<RequestRecord> records_;
};

struct Talk {
  explicit Talk(FakeEngine::Script script = FakeEngine::Repeat, LimitsSection limits = {},
                std::vector<std::string> keys = {}, const Clock* clock = &SystemClock::Get(),
                const RecentErrors* errors = nullptr)
      : config(WithLimits(limits, std::move(keys))), engine(std::move(script), clock) {
    model = std::make_shared<ServedModel>();
    model->name = "demo";
    model->aliases = {"alias"};
    model->engine = &engine;
    model->tokenizer = &tokenizer;
    model->metrics = &metrics;
    model->max_context = 4096;
    model->vocab_size = 258;
    model->created = 1700000000;
    model->defaults.eos_token_ids = {FakeTokenizer::kEos};
    registry =
        std::make_unique<StaticRegistry>(std::vector<std::shared_ptr<const ServedModel>>{model});
    ServiceParts parts;
    parts.config = &config;
    access = std::make_unique<AccessControl>(*MakeAccessRules(*config.Get()));
    parts.access = access.get();
    parts.version = "1.2.3";
    parts.models = registry.get();
    parts.loop = &loop;
    parts.clock = clock;
    parts.catalogue = &catalogue;
    parts.log = &log;
    parts.errors = errors;
    parts.usage = usage;
    service = std::make_unique<GenerationService>(std::move(parts));
  }
  ~Talk() { loop.Stop(); }
  static ServerConfig WithLimits(LimitsSection limits, std::vector<std::string> keys) {
    ServerConfig out;
    out.limits = limits;
    out.auth.api_keys = std::move(keys);
    return out;
  }

  Live<ServerConfig> config;
  FakeTokenizer tokenizer;
  Catalogue catalogue{"1.2.3"};
  RequestMetrics metrics = catalogue.MakeRequestMetrics("demo", 4096);
  RecordingLog log;
  std::shared_ptr<UsageBook> usage = UsageBook::InMemory();
  std::unique_ptr<AccessControl> access;
  std::shared_ptr<ServedModel> model;
  std::unique_ptr<StaticRegistry> registry;
  TextLoop loop{2, 1024};
  std::unique_ptr<GenerationService> service;
  FakeEngine engine;  // its thread ends first
};

}  // namespace penstock
