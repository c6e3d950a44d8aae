// Calls through a chain, and models that stand in for others, with engines stepped by hand.
#include "service/chain_call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>

#include "fakes/fake_engine.h"
#include "fakes/fake_tokenizer.h"
#include "fakes/talk_fixture.h"
#include "service/generation_service.h"
#include "service/model_registry.h"

namespace penstock {
namespace {

class ChainedSink final : public ResponseSink {
 public:
  void OnStart(ResponseStart start) override {
    std::lock_guard lock(mutex_);
    ++starts_;
    start_ = std::move(start);
  }
  void OnDeltas(absl::Span<Delta> deltas) override {
    std::lock_guard lock(mutex_);
    for (const Delta& delta : deltas) text_ += delta.text;
    changed_.notify_all();
  }
  void OnEnd(const ResponseEnd& end) override {
    std::lock_guard lock(mutex_);
    ++ends_;
    end_ = end;
    changed_.notify_all();
  }
  ResponseEnd WaitForEnd() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(30), [&] { return ends_ > 0; }));
    EXPECT_EQ(ends_, 1);
    EXPECT_EQ(starts_, 1);
    return end_;
  }
  bool WaitForText(const std::string& text) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(30), [&] { return text_ == text; });
  }
  std::string text() {
    std::lock_guard lock(mutex_);
    return text_;
  }
  std::string Header(const std::string& name) {
    std::lock_guard lock(mutex_);
    for (const auto& [key, value] : start_.headers) {
      if (key == name) return value;
    }
    return "";
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  ResponseStart start_;
  std::string text_;
  ResponseEnd end_;
  int starts_ = 0, ends_ = 0;
};

/// A name means `small` in one look-up of those that are to serve, as an alias that is changed.
class SwitchedRegistry final : public ModelRegistry {
 public:
  explicit SwitchedRegistry(std::vector<std::shared_ptr<const ServedModel>> models)
      : models_(std::move(models)) {}
  void set_switched(int number) { switched_ = number; }
  std::shared_ptr<const ServedModel> Find(std::string_view name) const override {
    return models_.Find(name);
  }
  Found FindToServe(std::string_view name) const override {
    return models_.Find(++num_found_ == switched_ ? "small" : name);
  }
  std::vector<std::shared_ptr<const ServedModel>> List() const override { return models_.List(); }

 private:
  const StaticRegistry models_;
  int switched_ = 0;
  mutable std::atomic<int> num_found_{0};
};

class ChainCallTest : public ::testing::Test {
 protected:
  ChainCallTest() {
    config_.models["big"].fallback = {"small", "tiny"};
    config_.models["small"];
    config_.models["tiny"];
  }
  ~ChainCallTest() override { loop_.Stop(); }

  void Serve() {
    std::vector<std::shared_ptr<const ServedModel>> models;
    for (auto& [name, engine] :
         {std::pair("big", &big_), std::pair("small", &small_), std::pair("tiny", &tiny_)}) {
      auto model = std::make_shared<ServedModel>();
      model->name = name;
      model->aliases = {model->name + "-now"};
      model->engine = engine;
      model->tokenizer = &tokenizer_;
      model->max_context = 4096;
      model->vocab_size = 258;
      model->defaults.eos_token_ids = {FakeTokenizer::kEos};
      models.push_back(std::move(model));
    }
    registry_ = std::make_unique<SwitchedRegistry>(std::move(models));
    live_.Set(config_);
    auto made = ChainSet::Make(config_, nullptr, nullptr);
    ASSERT_TRUE(made.ok()) << made.status();
    chains_.Set(*std::move(made));
    access_ = std::make_unique<AccessControl>(*MakeAccessRules(config_));
    ServiceParts parts;
    parts.config = &live_;
    parts.access = access_.get();
    parts.models = registry_.get();
    parts.chains = &chains_;
    parts.loop = &loop_;
    parts.clock = &SystemClock::Get();
    parts.log = &log_;
    service_ = std::make_unique<GenerationService>(std::move(parts));
  }
  absl::StatusOr<std::shared_ptr<RunningCall>> Start(const std::string& prompt, bool stream = true,
                                                     int64_t max_tokens = 40) {
    GenerationCall call;
    call.request_id = "r";
    call.arrival = SystemClock::Get().Now();
    call.model = "big";
    call.prompts.push_back({prompt, {}, false});
    call.add_special_tokens = false;
    call.max_tokens = max_tokens;
    call.temperature = 0;
    call.stream = stream;
    return service_->Start(std::move(call), sink_);
  }
  /// Until the engine has the call: another one is asked on a text worker.
  static void StepToEnd(FakeEngine& engine) {
    ASSERT_TRUE(engine.WaitFor([](size_t, size_t live) { return live > 0; }));
    engine.StepUntilIdle();
  }

  ServerConfig config_;
  Live<ServerConfig> live_{ServerConfig()};
  Live<ChainSetPtr> chains_{nullptr};
  FakeTokenizer tokenizer_;
  RecordingLog log_;
  std::unique_ptr<AccessControl> access_;
  std::unique_ptr<SwitchedRegistry> registry_;
  TextLoop loop_{2, 64};
  std::unique_ptr<GenerationService> service_;
  std::shared_ptr<ChainedSink> sink_ = std::make_shared<ChainedSink>();
  FakeEngine big_, small_, tiny_;
};

TEST_F(ChainCallTest, AnotherModelAnswersWhereOneIsNotThere) {
  Serve();
  big_.set_healthy(false);
  big_.set_submit_status(absl::UnavailableError("the engine has failed"));
  small_.set_max_live(0);  // and no room in this one
  ASSERT_TRUE(Start("abc", true, 3).ok());
  StepToEnd(tiny_);
  EXPECT_FALSE(sink_->WaitForEnd().error);
  EXPECT_EQ(sink_->text(), "abc");
  EXPECT_EQ(sink_->Header("x-model-fallback"), "tiny");
}

TEST_F(ChainCallTest, WhatFailsBeforeItsFirstByteIsAskedElsewhere) {
  Serve();
  big_.set_fault(absl::InternalError("broken"));
  ASSERT_TRUE(Start("abc", true, 3).ok());
  StepToEnd(big_);
  StepToEnd(small_);
  EXPECT_FALSE(sink_->WaitForEnd().error);
  EXPECT_EQ(sink_->text(), "abc");
  EXPECT_EQ(sink_->Header("x-model-fallback"), "small");
  EXPECT_EQ(log_.Wait(2).back().code, 200);
}

TEST_F(ChainCallTest, ACallThatIsAskedElsewhereIsOneRequest) {
  config_.tenants["*"].rpm = {1};
  Serve();
  big_.set_fault(absl::InternalError("broken"));
  ASSERT_TRUE(Start("abc", true, 3).ok());
  StepToEnd(big_);
  StepToEnd(small_);
  EXPECT_FALSE(sink_->WaitForEnd().error);
  EXPECT_EQ(Start("abc").status().code(), absl::StatusCode::kResourceExhausted);  // but one
}

TEST_F(ChainCallTest, WhatFailsLaterFails) {
  Serve();
  ASSERT_TRUE(Start("abc", true, 3).ok());
  big_.Step();
  ASSERT_TRUE(sink_->WaitForText("a"));
  big_.set_fault(absl::InternalError("broken"));
  big_.StepUntilIdle();
  EXPECT_TRUE(sink_->WaitForEnd().error);
  EXPECT_TRUE(small_.submitted().empty());
}

TEST_F(ChainCallTest, TheFirstErrorIsTheOneThatClientsSee) {
  Serve();
  big_.set_max_live(0);
  small_.set_submit_status(absl::UnavailableError("the engine has failed"));
  tiny_.set_submit_status(absl::UnavailableError("the engine has failed"));
  EXPECT_EQ(Start("abc").status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(ChainCallTest, ACallThatIsWrongIsAskedNowhereElse) {
  Serve();
  EXPECT_EQ(Start("").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(small_.submitted().empty());
}

TEST_F(ChainCallTest, ACancelReachesTheModelThatStandsIn) {
  Serve();
  big_.set_max_live(0);
  const auto running = Start("abc", true, 3);
  ASSERT_TRUE(running.ok());
  (*running)->Cancel(CancelReason::kDisconnect);
  EXPECT_EQ(small_.num_cancelled(), 1u);
  StepToEnd(small_);
  EXPECT_TRUE(sink_->WaitForEnd().error);
}

TEST_F(ChainCallTest, WhatAnAliasMeansByNowIsJudgedAsWell) {
  config_.tenants["*"].models = {"tiny"};
  Serve();
  registry_->set_switched(1);
  EXPECT_EQ(service_->FindToServe("tiny-now", nullptr).status().code(), absl::StatusCode::kNotFound)
      << "it meant tiny, and means small";
  EXPECT_TRUE(service_->FindToServe("tiny-now", nullptr).ok());
}

TEST_F(ChainCallTest, TheModelThatLinksJudgedServesWhateverItsAliasMeansByThen) {
  config_.chain = {"cache:exact"};
  config_.models["big"].fallback.clear();
  Serve();
  registry_->set_switched(2);
  for (FakeEngine* engine : {&big_, &small_}) {  // the second call is one of the other model
    sink_ = std::make_shared<ChainedSink>();
    ASSERT_TRUE(Start("abc", true, 3).ok());
    StepToEnd(*engine);
    EXPECT_FALSE(sink_->WaitForEnd().error);
    EXPECT_EQ(sink_->Header("x-cache"), "");
  }
  sink_ = std::make_shared<ChainedSink>();
  ASSERT_TRUE(Start("abc", true, 3).ok());
  EXPECT_FALSE(sink_->WaitForEnd().error);
  EXPECT_EQ(sink_->Header("x-cache"), "hit") << "what big said is kept for it";
  EXPECT_EQ(big_.submitted().size(), 1u);
  EXPECT_EQ(small_.submitted().size(), 1u);
}

TEST_F(ChainCallTest, ADeniedAnswerStopsItsEngineAndIsLogged) {
  GuardEntry& words = config_.guards["words"];
  words.use = "ban";
  words.words = {"cat"};
  words.hold = 4;
  config_.chain = {"words"};
  Serve();
  // The prompt is looked at as well: what the engine repeats is a word only when read twice.
  ASSERT_TRUE(Start("at c").ok());
  while (big_.num_live() > 0 && big_.num_cancelled() == 0) {
    big_.Step();
    std::this_thread::yield();
  }
  big_.StepUntilIdle();
  const ResponseEnd end = sink_->WaitForEnd();
  ASSERT_TRUE(end.error);
  EXPECT_EQ(end.error->code, absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(sink_->text(), "at ");
  EXPECT_EQ(log_.Wait(1).front().code, 403);
}

}  // namespace
}  // namespace penstock
