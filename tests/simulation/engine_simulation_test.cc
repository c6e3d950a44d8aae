// Seeded arrivals, cancels, deadlines and preemptions on the real engine over a fake executor and
// clock.
#include "simulation/simulation.h"
#include "test_seed.h"

namespace penstock {
namespace {

/// Requests of every kind are live when the device fails at some step.
TEST(EngineFault, EndsEveryoneOnceAndLetsNobodyIn) {
  std::mt19937_64 random(TestSeed());
  for (int run = 0; run < 200; ++run) {
    ExecutorLimits limits;
    limits.groups = {Full(48)};
    limits.num_slots = 8;
    limits.pipeline_depth = 1 + run % 2;
    limits.max_step_tokens = 64;
    limits.max_context = kContext;
    limits.vocab_size = 500;
    auto executor = std::make_unique<FakeExecutor>(limits);
    const uint64_t fatal_step = 1 + random() % 40;
    executor->on_launch = [fatal_step](const StepPlan& plan) {
      return plan.step.value < fatal_step ? absl::OkStatus() : absl::InternalError("lost");
    };
    FakeClock clock;
    EngineOptions options;
    options.clock = &clock;
    EngineLoop engine(std::move(executor), options);
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    for (uint64_t id = 1; id <= 30; ++id) {
      GenerateRequest request;
      request.prompt.assign(1 + random() % 150, 3);
      request.max_tokens = 60;
      sinks.push_back(std::make_shared<RecordingSink>());
      ASSERT_TRUE(engine.Submit(RequestId{id}, request, sinks.back()).ok());
      if (random() % 8 == 0) engine.Cancel(RequestId{id});
    }
    while (engine.RunOnce()) {
    }
    int num_failed = 0;
    for (const auto& sink : sinks) {
      ASSERT_TRUE(sink->done);  // RecordingSink dies of a second OnDone
      if (sink->reason == FinishReason::kError) ++num_failed;
    }
    EXPECT_GT(num_failed, 0) << "fatal step " << fatal_step;
    EXPECT_FALSE(engine.load().healthy);
    EXPECT_EQ(engine.scheduler().tables().pool(0).num_held(), 0);
    GenerateRequest late;
    late.prompt = {1};
    EXPECT_EQ(engine.Submit(RequestId{99}, late, sinks[0]).code(), absl::StatusCode::kUnavailable);
  }
}

class EngineSimulation : public testing::TestWithParam<Scenario> {};

TEST_P(EngineSimulation, LosesNothingAndAnswersEveryone) {
  Scenario scenario = GetParam();
  if (kSanitized) scenario.num_requests /= 4;
  Simulation simulation(scenario, TestSeed());
  simulation.Run();
  const SchedulerCounters& counters = simulation.counters();
  std::printf(
      "preemptions %lld, prefix hits %lld of %lld tokens, cancelled %d, expired %d, refused %d\n",
      static_cast<long long>(counters.num_preemptions),
      static_cast<long long>(counters.prefix_hit_tokens),
      static_cast<long long>(counters.prefix_queried_tokens), simulation.num_cancelled(),
      simulation.num_expired(), simulation.num_refused());
  EXPECT_GT(counters.num_preemptions, 0) << "the scenario does not press";
  EXPECT_GT(simulation.num_cancelled(), 0);
  EXPECT_EQ(simulation.num_unloaded() > 0, scenario.max_adapters > 0);
  EXPECT_EQ(simulation.num_held_back() > 0, scenario.max_adapters > 0);
  EXPECT_EQ(counters.prefix_hit_tokens > 0, scenario.prefix_cache);
  std::printf("second tier: %lld of %lld tokens, exported %lld, imported %lld, evicted %lld\n",
              static_cast<long long>(counters.tier_hit_tokens),
              static_cast<long long>(counters.tier_queried_tokens),
              static_cast<long long>(simulation.tier().num_exported()),
              static_cast<long long>(simulation.tier().num_imported()),
              static_cast<long long>(simulation.tier().num_evicted()));
  EXPECT_EQ(counters.tier_hit_tokens > 0, scenario.tier);
  EXPECT_EQ(simulation.tier().num_evicted() > 0, scenario.tier);
  EXPECT_EQ(simulation.tier().num_imported(), simulation.num_imported());
  std::printf("drafts %lld, right %lld of %lld tokens\n",
              static_cast<long long>(counters.num_drafts),
              static_cast<long long>(counters.num_accepted_tokens),
              static_cast<long long>(counters.num_draft_tokens));
  EXPECT_EQ(counters.num_accepted_tokens > 0, scenario.drafts);
  EXPECT_EQ(counters.num_draft_tokens > counters.num_accepted_tokens, scenario.drafts);
}

INSTANTIATE_TEST_SUITE_P(
    Policies, EngineSimulation,
    testing::Values(
        Scenario{"PriorityDepth1", QueuePolicy::kPriority, 1, {Full(48)}, true, 10000},
        Scenario{"PriorityDepth2", QueuePolicy::kPriority, 2, {Full(48)}, true, 10000},
        Scenario{"FcfsDepth1", QueuePolicy::kFcfs, 1, {Full(48)}, true, 10000},
        Scenario{"FcfsDepth2", QueuePolicy::kFcfs, 2, {Full(48)}, true, 10000},
        Scenario{.name = "Adapters1",
                 .policy = QueuePolicy::kPriority,
                 .depth = 1,
                 .groups = {Full(48)},
                 .prefix_cache = true,
                 .num_requests = 6000,
                 .max_adapters = 2},
        Scenario{.name = "AdaptersDrafts2",
                 .policy = QueuePolicy::kPriority,
                 .depth = 2,
                 .groups = {Full(48)},
                 .prefix_cache = true,
                 .num_requests = 6000,
                 .drafts = true,
                 .max_adapters = 3},
        Scenario{.name = "AdaptersDraftModel2",
                 .policy = QueuePolicy::kFcfs,
                 .depth = 2,
                 .groups = {Full(48), DraftModel(48)},
                 .prefix_cache = true,
                 .num_requests = 4000,
                 .drafts = true,
                 .draft_model = true,
                 .max_adapters = 2},
        Scenario{.name = "AdaptersState1",
                 .policy = QueuePolicy::kFcfs,
                 .depth = 1,
                 .groups = {Full(48), State(8)},
                 .prefix_cache = true,
                 .num_requests = 4000,
                 .max_adapters = 2},
        Scenario{.name = "StateDraftModel1",
                 .policy = QueuePolicy::kPriority,
                 .depth = 1,
                 .groups = {State(8), Full(48), DraftModel(48)},
                 .prefix_cache = true,
                 .num_requests = 4000,
                 .drafts = true,
                 .draft_model = true},
        Scenario{.name = "StateDraftModel2",
                 .policy = QueuePolicy::kFcfs,
                 .depth = 2,
                 .groups = {Full(48), State(8), DraftModel(48)},
                 .prefix_cache = true,
                 .num_requests = 4000,
                 .drafts = true,
                 .draft_model = true},
        Scenario{"NoPrefixCache", QueuePolicy::kPriority, 2, {Full(48)}, false, 2000},
        Scenario{"WindowOnly", QueuePolicy::kPriority, 2, {Window(40, 32)}, true, 4000},
        Scenario{
            "FullAndWindow", QueuePolicy::kPriority, 2, {Full(48), Window(40, 32)}, true, 4000},
        Scenario{"FullAndState1", QueuePolicy::kPriority, 1, {Full(48), State(8)}, true, 4000},
        Scenario{"FullAndState2", QueuePolicy::kFcfs, 2, {State(5), Full(48)}, true, 4000},
        Scenario{
            "WindowAndState", QueuePolicy::kPriority, 2, {Window(40, 32), State(30)}, true, 4000},
        Scenario{"Drafts1", QueuePolicy::kPriority, 1, {Full(48)}, true, 10000, true},
        Scenario{"Drafts2", QueuePolicy::kPriority, 2, {Full(48)}, true, 10000, true},
        Scenario{"DraftsUnawaited", QueuePolicy::kPriority, 2, {Full(48)}, true, 10000, true, 2},
        Scenario{"DraftsFcfs", QueuePolicy::kFcfs, 2, {Full(48)}, false, 4000, true},
        Scenario{"DraftsWindow", QueuePolicy::kPriority, 2, {Window(40, 32)}, true, 4000, true, 2},
        Scenario{"DraftsFullAndWindow",
                 QueuePolicy::kPriority,
                 2,
                 {Full(48), Window(40, 32)},
                 true,
                 4000,
                 true},
        Scenario{"DraftModel1",
                 QueuePolicy::kPriority,
                 1,
                 {Full(48), DraftModel(48)},
                 true,
                 10000,
                 true,
                 0,
                 true},
        Scenario{"DraftModel2",
                 QueuePolicy::kPriority,
                 2,
                 {Full(48), DraftModel(48)},
                 true,
                 10000,
                 true,
                 0,
                 true},
        Scenario{"DraftModelWindow",
                 QueuePolicy::kFcfs,
                 2,
                 {Full(48), Window(40, 32), DraftModel(40)},
                 true,
                 4000,
                 true,
                 0,
                 true},
        Scenario{.name = "Tier1",
                 .policy = QueuePolicy::kPriority,
                 .depth = 1,
                 .groups = {WithTier(Full(48), 60)},
                 .prefix_cache = true,
                 .num_requests = 10000,
                 .tier = true},
        Scenario{.name = "Tier2Drafts",
                 .policy = QueuePolicy::kPriority,
                 .depth = 2,
                 .groups = {WithTier(Full(48), 60)},
                 .prefix_cache = true,
                 .num_requests = 10000,
                 .drafts = true,
                 .tier = true},
        Scenario{.name = "TierOfFewPlaces",
                 .policy = QueuePolicy::kFcfs,
                 .depth = 2,
                 .groups = {WithTier(Full(48), 6)},
                 .prefix_cache = true,
                 .num_requests = 6000,
                 .tier = true},
        Scenario{.name = "TierAdapters",
                 .policy = QueuePolicy::kPriority,
                 .depth = 2,
                 .groups = {WithTier(Full(48), 60)},
                 .prefix_cache = true,
                 .num_requests = 6000,
                 .max_adapters = 2,
                 .tier = true},
        Scenario{.name = "TierFullAndWindow",
                 .policy = QueuePolicy::kPriority,
                 .depth = 2,
                 .groups = {WithTier(Full(48), 60), WithTier(Window(40, 32), 40)},
                 .prefix_cache = true,
                 .num_requests = 6000,
                 .drafts = true,
                 .tier = true},
        Scenario{.name = "TierWindow",
                 .policy = QueuePolicy::kPriority,
                 .depth = 1,
                 .groups = {WithTier(Window(40, 32), 40)},
                 .prefix_cache = true,
                 .num_requests = 6000,
                 .tier = true}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace penstock
