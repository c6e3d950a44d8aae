// One call's answer, with an engine stepped by hand.
#include "service/response_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>

#include "fakes/talk_fixture.h"
#include "service/call_error.h"

namespace penstock {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RecordingSink final : public ResponseSink {
 public:
  void OnStart(ResponseStart start) override { start_ = std::move(start); }
  void OnDeltas(absl::Span<Delta> deltas) override {
    std::lock_guard lock(mutex_);
    for (Delta& delta : deltas) deltas_.push_back(std::move(delta));
    changed_.notify_all();
  }
  void OnEnd(const ResponseEnd& end) override {
    std::lock_guard lock(mutex_);
    ++num_ends_;
    end_ = end;
    changed_.notify_all();
  }
  bool congested() const override {
    ++num_asked_;
    return congested_;
  }

  bool WaitForDeltas(size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return deltas_.size() >= count; });
  }
  ResponseEnd WaitForEnd() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, [&] { return num_ends_ > 0; }));
    EXPECT_EQ(num_ends_, 1);
    return end_;
  }
  std::string Text(int32_t index = 0) {
    std::lock_guard lock(mutex_);
    std::string text;
    for (const Delta& delta : deltas_) text += delta.index == index ? delta.text : "";
    return text;
  }
  std::vector<Delta> deltas() {
    std::lock_guard lock(mutex_);
    return deltas_;
  }
  void set_congested(bool congested) { congested_ = congested; }
  int num_asked() const { return num_asked_; }
  const ResponseStart& start() const { return start_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  ResponseStart start_;
  std::vector<Delta> deltas_;
  ResponseEnd end_;
  int num_ends_ = 0;
  std::atomic<bool> congested_{false};
  mutable std::atomic<int> num_asked_{0};
};

GenerationCall Ask(const std::string& prompt, int64_t max_tokens, bool stream = true) {
  GenerationCall call;
  call.request_id = "r1";
  call.protocol = "test";
  call.arrival = SystemClock::Get().Now();
  call.prompts.push_back({prompt, {}, false});
  call.max_tokens = max_tokens;
  call.add_special_tokens = false;
  call.stream = stream;
  return call;
}

class ResponseStreamTest : public ::testing::Test {
 protected:
  std::shared_ptr<RunningCall> Start(Talk& talk, GenerationCall call) {
    auto stream = talk.service->Start(std::move(call), sink_);
    EXPECT_TRUE(stream.ok()) << stream.status();
    return stream.ok() ? *stream : nullptr;
  }
  std::shared_ptr<RecordingSink> sink_ = std::make_shared<RecordingSink>();
};

TEST_F(ResponseStreamTest, GivesTextAsItComesAndOneEnd) {
  Talk talk;
  Start(talk, Ask("ab", 3));
  EXPECT_EQ(sink_->start().prompt_tokens, 2);
  talk.engine.Step();
  ASSERT_TRUE(sink_->WaitForDeltas(1));
  EXPECT_EQ(sink_->Text(), "a");
  talk.engine.StepUntilIdle();
  const ResponseEnd end = sink_->WaitForEnd();
  EXPECT_FALSE(end.error);
  EXPECT_EQ(sink_->Text(), "aba");
  EXPECT_EQ(end.usage.completion_tokens, 3);
  EXPECT_EQ(sink_->deltas().back().finish, FinishReason::kLength);
}

TEST_F(ResponseStreamTest, HoldsBackWhatMayBecomeAStopString) {
  Talk talk(FakeEngine::Always(Ids("xSTxSTOP")));
  GenerationCall call = Ask("p", 20);
  call.stop = {"STOP"};
  Start(talk, call);
  for (int i = 0; i < 3; ++i) talk.engine.Step();
  ASSERT_TRUE(sink_->WaitForDeltas(1));
  EXPECT_EQ(sink_->Text(), "x");
  talk.engine.StepUntilIdle();
  const ResponseEnd end = sink_->WaitForEnd();
  EXPECT_EQ(sink_->Text(), "xSTx");
  EXPECT_EQ(sink_->deltas().back().stop_string, "STOP");
  EXPECT_EQ(end.usage.completion_tokens, 8);
}

TEST_F(ResponseStreamTest, TextHeldForAStopStringLeavesAtTheEnd) {
  Talk talk(FakeEngine::Always(Ids("abST")));
  GenerationCall call = Ask("p", 4);
  call.stop = {"STOP"};
  Start(talk, call);
  talk.engine.StepUntilIdle();
  sink_->WaitForEnd();
  EXPECT_EQ(sink_->Text(), "abST");
  EXPECT_EQ(sink_->deltas().back().finish, FinishReason::kLength);
}

TEST_F(ResponseStreamTest, AStopStringCancelsTheEngineAndWhatFollowsIsNotCounted) {
  Talk talk(FakeEngine::Always(Ids("aSTOPbcdef")));
  GenerationCall call = Ask("p", 10);
  call.stop = {"STOP"};
  call.include_stop_str_in_output = true;
  Start(talk, call);
  for (int i = 0; i < 5; ++i) talk.engine.Step();
  while (talk.engine.num_cancelled() == 0) std::this_thread::yield();
  talk.engine.Step();
  EXPECT_EQ(talk.engine.num_live(), 0);
  EXPECT_EQ(sink_->WaitForEnd().usage.completion_tokens, 5);
  EXPECT_EQ(sink_->Text(), "aSTOP");
  EXPECT_EQ(talk.metrics.generation_tokens.value(), 5);
  EXPECT_EQ(talk.metrics.success_stop.value(), 1);
}

TEST_F(ResponseStreamTest, AnIncompleteCodePointAtTheEndIsAReplacementCharacter) {
  Talk talk(FakeEngine::Always({'a', 0xE2, 0x82}));
  Start(talk, Ask("p", 3));
  talk.engine.StepUntilIdle();
  sink_->WaitForEnd();
  EXPECT_EQ(sink_->Text(), "a\xEF\xBF\xBD");
}

TEST_F(ResponseStreamTest, CancelFreesTheRequestAndEndsOnce) {
  Talk talk;
  const auto stream = Start(talk, Ask("ab", 100));
  talk.engine.Step();
  ASSERT_TRUE(sink_->WaitForDeltas(1));
  stream->Cancel(CancelReason::kDisconnect);
  stream->Cancel(CancelReason::kDisconnect);
  talk.engine.Step();
  EXPECT_EQ(talk.engine.num_live(), 0);
  EXPECT_EQ(sink_->WaitForEnd().error->code, absl::StatusCode::kCancelled);
  const RequestRecord record = talk.log.Wait(1).at(0);
  EXPECT_EQ(record.code, 499);
  EXPECT_EQ(record.finish, "abort");
  EXPECT_EQ(record.usage.completion_tokens, 1);
  EXPECT_EQ(talk.metrics.generation_tokens.value(), 1);
  EXPECT_EQ(talk.metrics.prompt_tokens.value(), 2);
  EXPECT_EQ(talk.metrics.cancelled_disconnect.value(), 1);
}

TEST_F(ResponseStreamTest, ACancelBeforeTheFirstTokenCountsNoTokens) {
  Talk talk;
  Start(talk, Ask("ab", 100))->Cancel(CancelReason::kDisconnect);
  talk.engine.StepUntilIdle();
  sink_->WaitForEnd();
  EXPECT_EQ(talk.metrics.prompt_tokens.value(), 0);
  EXPECT_EQ(talk.metrics.success_abort.value(), 1);
}

TEST_F(ResponseStreamTest, ASlowReaderIsHeldBackAndResumed) {
  Talk talk;
  const auto stream = Start(talk, Ask("ab", 50));
  sink_->set_congested(true);
  for (int i = 0; i < 20; ++i) talk.engine.Step();
  EXPECT_EQ(sink_->Text(), "");
  sink_->set_congested(false);
  stream->Resume();
  ASSERT_TRUE(sink_->WaitForDeltas(1));
  talk.engine.StepUntilIdle();
  EXPECT_EQ(sink_->WaitForEnd().usage.completion_tokens, 50);
  EXPECT_EQ(sink_->Text().size(), 50);
}

TEST_F(ResponseStreamTest, AReaderThatNeverReadsIsCancelledAtTheBound) {
  LimitsSection limits;
  limits.stream_buffer = {64 * 300};
  Talk talk(FakeEngine::Repeat, limits);
  Start(talk, Ask("ab", 4000));
  sink_->set_congested(true);
  talk.engine.Step();
  while (sink_->num_asked() == 0) std::this_thread::yield();
  int steps = 1;
  while (talk.engine.Step()) ++steps;
  EXPECT_LT(steps, 310);
  EXPECT_EQ(sink_->WaitForEnd().error->code, absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(talk.metrics.cancelled_slow_reader.value(), 1);
}

TEST_F(ResponseStreamTest, AFailedSubmissionOfACopyCancelsTheOthers) {
  Talk talk;
  talk.engine.set_max_live(2);
  GenerationCall call = Ask("ab", 100);
  call.n = 3;
  const auto stream = talk.service->Start(call, sink_);
  EXPECT_EQ(stream.status().code(), absl::StatusCode::kResourceExhausted);
  talk.engine.Step();
  EXPECT_EQ(talk.engine.num_live(), 0);
  EXPECT_TRUE(sink_->deltas().empty());
}

TEST_F(ResponseStreamTest, AFullQueueSaysWhenItsFirstWillHaveBegun) {
  Talk talk;
  talk.engine.set_max_live(0);
  EngineLoad queue;
  queue.num_waiting = 30;
  queue.waiting = Waiting({{.priority = 0, .num_requests = 30, .num_tokens = 3000}});
  queue.requests_per_second = 2;
  talk.engine.set_queue(queue);
  const auto refused = talk.service->Start(Ask("ab", 3), sink_);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(RetryAfterOf(refused.status()), 15);
}

TEST_F(ResponseStreamTest, AnEnginesOwnCancelIsAShutdown) {
  Talk talk;
  Start(talk, Ask("ab", 100));
  talk.engine.Step();
  talk.engine.Cancel(RequestId(1));
  talk.engine.Step();
  const ResponseEnd end = sink_->WaitForEnd();
  ASSERT_TRUE(end.error);
  EXPECT_EQ(end.error->code, absl::StatusCode::kUnavailable);
}

TEST_F(ResponseStreamTest, OneFaultyCopyEndsTheCall) {
  Talk talk;
  GenerationCall call = Ask("ab", 100);
  call.n = 2;
  Start(talk, call);
  talk.engine.Step();
  talk.engine.set_fault(absl::InternalError("lost"));
  talk.engine.StepUntilIdle();
  const ResponseEnd end = sink_->WaitForEnd();
  ASSERT_TRUE(end.error);
  EXPECT_EQ(end.error->message, "lost");
  EXPECT_EQ(talk.metrics.success_error.value(), 2);
}

TEST_F(ResponseStreamTest, TheLogLineHasWhatTheRequestTook) {
  Talk talk;
  Start(talk, Ask("abc", 4, false));
  talk.engine.StepUntilIdle();
  sink_->WaitForEnd();
  const RequestRecord record = talk.log.Wait(1).at(0);
  EXPECT_EQ(record.request_id, "r1");
  EXPECT_EQ(record.model, "demo");
  EXPECT_EQ(record.code, 200);
  EXPECT_EQ(record.finish, "length");
  EXPECT_EQ(record.usage.prompt_tokens, 3);
  EXPECT_EQ(record.usage.completion_tokens, 4);
  EXPECT_GE(record.total_time, record.first_token_time);
}

TEST_F(ResponseStreamTest, LatenciesAreObserved) {
  Talk talk;
  Start(talk, Ask("abc", 4));
  talk.engine.StepUntilIdle();
  sink_->WaitForEnd();
  const std::string text = talk.catalogue.Text();
  EXPECT_THAT(
      text,
      HasSubstr("vllm:time_to_first_token_seconds_count{engine=\"0\",model_name=\"demo\"} 1\n"));
  EXPECT_THAT(
      text,
      HasSubstr("vllm:inter_token_latency_seconds_count{engine=\"0\",model_name=\"demo\"} 3\n"));
  EXPECT_THAT(
      text,
      HasSubstr(
          "penstock_inter_token_latency_seconds_count{engine=\"0\",model_name=\"demo\"} 3\n"));
  EXPECT_THAT(
      text,
      HasSubstr("vllm:e2e_request_latency_seconds_count{engine=\"0\",model_name=\"demo\"} 1\n"));
  EXPECT_THAT(
      text, HasSubstr("vllm:request_generation_tokens_sum{engine=\"0\",model_name=\"demo\"} 4\n"));
  EXPECT_THAT(
      text, HasSubstr("vllm:request_params_max_tokens_sum{engine=\"0\",model_name=\"demo\"} 4\n"));
}

TEST_F(ResponseStreamTest, AStreamIntervalGathersTokens) {
  Talk talk;
  GenerationCall call = Ask("abcdefgh", 8);
  call.stream_interval = 4;
  Start(talk, call);
  talk.engine.StepUntilIdle();
  sink_->WaitForEnd();
  EXPECT_LE(sink_->deltas().size(), 2);
  EXPECT_EQ(sink_->Text(), "abcdefgh");
}

TEST_F(ResponseStreamTest, SeedsAreGivenOrRandomAndDifferByCopy) {
  Talk talk;
  GenerationCall call = Ask("a", 1);
  call.n = 2;
  Start(talk, call);
  call.seed = -5;
  Start(talk, call);
  const auto submitted = talk.engine.submitted();
  EXPECT_NE(submitted[0].sampling.seed, submitted[1].sampling.seed);
  EXPECT_EQ(submitted[2].sampling.seed, static_cast<uint64_t>(-5));
  EXPECT_EQ(submitted[3].sampling.seed, static_cast<uint64_t>(-4));
  talk.engine.StepUntilIdle();
}

TEST_F(ResponseStreamTest, DefaultsComeFromTheModelAndFieldsGoBeforeThem) {
  Talk talk;
  talk.model->defaults.temperature = 0.25;
  talk.model->defaults.top_k = 40;
  GenerationCall call = Ask("a", 1);
  Start(talk, call);
  call.temperature = 0;
  call.top_k = -1;
  call.ignore_eos = true;
  call.stop_token_ids = {5};
  call.priority = -3;
  call.cache_salt = "salt";
  call.timeout_ms = 1000;
  Start(talk, call);
  const auto submitted = talk.engine.submitted();
  EXPECT_EQ(submitted[0].sampling.temperature, 0.25f);
  EXPECT_EQ(submitted[0].sampling.top_k, 40);
  EXPECT_THAT(submitted[0].stop_token_ids, ElementsAre(FakeTokenizer::kEos));
  EXPECT_EQ(submitted[1].sampling.temperature, 0.0f);
  EXPECT_EQ(submitted[1].sampling.top_k, 0);
  EXPECT_THAT(submitted[1].stop_token_ids, ElementsAre(5));
  EXPECT_EQ(submitted[1].priority, -3);
  EXPECT_EQ(submitted[1].cache_salt, "tenant anonymous\nsalt");
  EXPECT_EQ(*submitted[1].deadline, call.arrival + absl::Seconds(1));
  talk.engine.StepUntilIdle();
}

TEST_F(ResponseStreamTest, ManyStreamsAtOnceEndWithTheirOwnText) {
  Talk talk;
  talk.engine.Start();
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 64; ++i) {
    sinks.push_back(std::make_shared<RecordingSink>());
    ASSERT_TRUE(
        talk.service
            ->Start(Ask(std::string(1, static_cast<char>('0' + i)), 1 + i * 3), sinks.back())
            .ok());
  }
  int64_t total = 0;
  for (int i = 0; i < 64; ++i) {
    total += sinks[i]->WaitForEnd().usage.completion_tokens;
    EXPECT_EQ(sinks[i]->Text(), std::string(1 + i * 3, static_cast<char>('0' + i)));
  }
  EXPECT_EQ(talk.metrics.generation_tokens.value(), total);
}

TEST_F(ResponseStreamTest, AFailedEngineIsPaidForWhatWasSaid) {
  Talk talk;
  ServerConfig config = *talk.config.Get();
  config.tenants["*"].budget_tokens.value = 100;
  config.tenants["*"].budget_per = absl::Hours(1);
  talk.config.Set(config);
  const auto fail_after = [&](int tokens) {
    sink_ = std::make_shared<RecordingSink>();
    talk.engine.set_fault(absl::OkStatus());
    const auto started = talk.service->Start(Ask("abcd", 90), sink_);
    ASSERT_TRUE(started.ok()) << started.status();
    for (int i = 0; i < tokens; ++i) talk.engine.Step();
    talk.engine.set_fault(absl::InternalError("lost"));
    talk.engine.StepUntilIdle();
    const ResponseEnd end = sink_->WaitForEnd();
    ASSERT_TRUE(end.error);
    EXPECT_EQ(end.usage.completion_tokens, tokens);
  };
  fail_after(0);
  EXPECT_EQ(talk.usage->WindowOf("anonymous").used, 0);
  fail_after(3);
  EXPECT_EQ(talk.usage->WindowOf("anonymous").used, 4 + 3);
  // The limit has settled the same: 93 are left, not 94.
  for (const auto& [tokens, fits] : {std::pair(90, false), {89, true}}) {
    talk.engine.set_fault(absl::OkStatus());
    const auto next = talk.service->Start(Ask("abcd", tokens), std::make_shared<RecordingSink>());
    EXPECT_EQ(next.ok(), fits) << tokens;
  }
  talk.engine.StepUntilIdle();
}

TEST_F(ResponseStreamTest, SettlesCachedPromptTokensAtTheirPrice) {
  Talk talk;
  talk.engine.set_cached_tokens(10);
  ServerConfig config = *talk.config.Get();
  config.tenants["*"].budget_tokens.value = 100;
  config.tenants["*"].cached_price.value = 0.25;
  talk.config.Set(config);
  // 16 of the prompt and 4 of the answer, of which 10 count a quarter: 20 - 7 (rounded down).
  const auto ask = [&] {
    sink_ = std::make_shared<RecordingSink>();
    const auto started = talk.service->Start(Ask("sixteen letters!", 4, false), sink_);
    if (!started.ok()) return started.status();
    talk.engine.StepUntilIdle();
    EXPECT_EQ(sink_->WaitForEnd().usage.cached_tokens, 10);
    return absl::OkStatus();
  };
  for (int64_t calls = 1; calls <= 7; ++calls) {
    ASSERT_TRUE(ask().ok()) << calls;
    EXPECT_EQ(talk.usage->WindowOf("anonymous").used, 13 * calls);
  }
  // 91 are taken: there is no room for 20.
  EXPECT_EQ(ask().code(), absl::StatusCode::kResourceExhausted);
  const std::vector<UsageRow> rows = talk.usage->Rows();
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].totals.prompt_tokens, 7 * 16);  // what was used is told whole
  EXPECT_EQ(rows[0].totals.cached_tokens, 7 * 10);
}

}  // namespace
}  // namespace penstock
