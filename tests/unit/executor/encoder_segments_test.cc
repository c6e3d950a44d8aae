// Which rows of an encoder's table of token types a pair of texts reads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/worker_pool.h"
#include "executor/load_model.h"
#include "executor/model_runner.h"

namespace penstock {
namespace {

class EncoderSegments : public ::testing::Test {
 protected:
  void Load(const std::string& name) {
    LoadOptions load;
    load.model_dir = std::string(PENSTOCK_SOURCE_DIR) + "/tests/goldens/encoders/" + name;
    load.pool = &pool_;
    auto model = LoadModel(load);
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
  }
  /// What six tokens yield when the second text begins at `second`.
  std::vector<float> Hidden(int32_t second) {
    RunnerOptions options;
    options.num_slots = 1;
    const auto runner = ModelRunner::Make(model_.get(), options);
    EXPECT_TRUE(runner.ok()) << runner.status();
    StepPlan plan;
    plan.step = StepId(1);
    plan.tokens = {2, 9, 14, 3, 11, 3};
    SlotSetup setup;
    setup.slot = SlotId(0);
    setup.sequence = SequenceId(1);
    setup.prompt_tokens = 6;
    setup.second_segment = second;
    SequenceSlice slice;
    slice.sequence = setup.sequence;
    slice.slot = setup.slot;
    slice.num_tokens = 6;
    slice.kind = OutputKind::kHidden;
    slice.num_outputs = 1;
    plan.setups.push_back(setup);
    plan.slices.push_back(slice);
    EXPECT_TRUE((*runner)->Forward(plan).ok());
    auto result = (*runner)->Sample({});
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? result->slices.at(0).output.hidden : std::vector<float>{};
  }

  WorkerPool pool_{1};
  std::unique_ptr<LoadedModel> model_;
};

TEST_F(EncoderSegments, WithOneTypeASecondTextReadsTheSameRowAsTheFirst) {
  Load("xlm_roberta_reranker");
  ASSERT_EQ(model_->config.encoder.num_types, 1);
  EXPECT_THAT(Hidden(0), ::testing::Not(::testing::IsEmpty()));
  EXPECT_EQ(Hidden(3), Hidden(0));
}

TEST_F(EncoderSegments, WithTwoTypesASecondTextReadsItsOwnRow) {
  Load("bert_reranker");
  ASSERT_EQ(model_->config.encoder.num_types, 2);
  EXPECT_NE(Hidden(3), Hidden(0));
  EXPECT_NE(Hidden(3), Hidden(4));
}

}  // namespace
}  // namespace penstock
