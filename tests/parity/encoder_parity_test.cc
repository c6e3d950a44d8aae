// Embedding models and rerankers against what transformers computes (tests/goldens/make_encoders.py).
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "absl/strings/str_cat.h"
#include "executor/load_model.h"
#include "executor/model_runner.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

struct EncoderInput {
  std::vector<TokenId> ids;
  int32_t second = 0;
  std::vector<float> expected;
};

class EncoderParity : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const std::string dir =
        std::string(PENSTOCK_SOURCE_DIR) + "/tests/goldens/encoders/" + GetParam();
    LoadOptions load;
    load.model_dir = dir;
    load.device = device_;
    load.pool = &pool_;
    auto model = LoadModel(load);
    if (absl::IsUnavailable(model.status())) GTEST_SKIP() << model.status();
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    std::ifstream in(dir + "/golden.json");
    golden_ = Json::parse(in);
  }

  /// `key`: the pooling, or "logit".
  std::vector<EncoderInput> Inputs(const std::string& key) const {
    std::vector<EncoderInput> inputs;
    for (const Json& row : golden_["prompts"]) {
      const bool whole = row[key].is_array();
      inputs.push_back(
          {row["ids"], row.value("second", 0),
           whole ? row[key].get<std::vector<float>>() : std::vector<float>{row[key].get<float>()}});
    }
    return inputs;
  }
  bool classifies() const { return model_->config.encoder.num_labels > 0; }

  /// Relative to the length of what is expected, over all inputs; one step for each of `batches`.
  double Error(DType dtype, const std::vector<EncoderInput>& inputs,
               const std::vector<std::vector<size_t>>& batches) {
    RunnerOptions options;
    options.dtype = options.kv_dtype = dtype;
    options.kv_bytes = 4 << 20;
    options.num_slots = 8;
    options.max_step_tokens = 256;
    const auto runner = ModelRunner::Make(model_.get(), options);
    EXPECT_TRUE(runner.ok()) << runner.status();
    if (!runner.ok()) return 1;
    double error = 0;
    double norm = 0;
    for (const std::vector<size_t>& batch : batches) {
      const StepResult result = Compute(**runner, inputs, batch);
      EXPECT_EQ(result.slices.size(), batch.size());
      for (size_t i = 0; i < result.slices.size(); ++i) {
        const std::vector<float>& got = result.slices[i].output.hidden;
        const std::vector<float>& expected = inputs[batch[i]].expected;
        EXPECT_EQ(got.size(), expected.size());
        for (size_t k = 0; k < std::min(got.size(), expected.size()); ++k) {
          error += std::pow(got[k] - expected[k], 2);
          norm += std::pow(expected[k], 2);
        }
      }
    }
    return std::sqrt(error / norm);
  }

  StepResult Compute(ModelRunner& runner, const std::vector<EncoderInput>& inputs,
                     const std::vector<size_t>& batch) {
    StepPlan plan;
    plan.step = StepId(++num_steps_);
    int32_t block = 0;
    for (size_t i = 0; i < batch.size(); ++i) {
      const EncoderInput& input = inputs[batch[i]];
      SlotSetup setup;
      setup.slot = SlotId(static_cast<int32_t>(i));
      setup.sequence = SequenceId(++num_sequences_);
      setup.prompt_tokens = static_cast<int32_t>(input.ids.size());
      setup.second_segment = input.second;
      SequenceSlice slice;
      slice.sequence = setup.sequence;
      slice.slot = setup.slot;
      slice.num_tokens = setup.prompt_tokens;
      slice.token_offset = static_cast<int32_t>(plan.tokens.size());
      slice.kind = OutputKind::kHidden;
      slice.num_outputs = 1;
      plan.tokens.insert(plan.tokens.end(), input.ids.begin(), input.ids.end());
      if (!runner.limits().groups.empty()) {
        slice.blocks[0].begin = static_cast<int32_t>(plan.block_ids.size());
        const int32_t size = runner.limits().block_size;
        slice.blocks[0].count = (slice.num_tokens + size - 1) / size;
        for (int32_t k = 0; k < slice.blocks[0].count; ++k) plan.block_ids.push_back(block++);
      }
      plan.setups.push_back(std::move(setup));
      plan.slices.push_back(slice);
    }
    EXPECT_TRUE(runner.Forward(plan).ok());
    auto result = runner.Sample({});
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *std::move(result) : StepResult{};
  }

  void ExpectWithin(DType dtype, double limit) {
    const std::vector<std::vector<size_t>> alone = {{0}, {1}, {2}, {3}, {4}};
    const std::vector<std::vector<size_t>> together = {{4, 0, 2, 3, 1}, {2, 4}};
    const auto check = [&](const std::string& key) {
      const std::vector<EncoderInput> inputs = Inputs(key);
      ASSERT_EQ(inputs.size(), 5u);
      const double error_alone = Error(dtype, inputs, alone);
      const double error_together = Error(dtype, inputs, together);
      RecordProperty(key, absl::StrCat(error_alone, " alone, ", error_together, " in a batch"));
      EXPECT_LE(error_alone, limit) << key;
      EXPECT_LE(error_together, limit) << key << ", in a batch";
    };
    if (classifies()) return check("logit");
    for (const auto& [pooling, key] :
         {std::pair{Pooling::kMean, "mean"}, {Pooling::kFirst, "cls"}, {Pooling::kLast, "last"}}) {
      model_->config.pooling = pooling;
      check(key);
    }
  }

  std::string device_ = "cpu";
  WorkerPool pool_{2};
  std::unique_ptr<LoadedModel> model_;
  Json golden_;
  uint64_t num_steps_ = 0;
  uint64_t num_sequences_ = 0;
};

TEST_P(EncoderParity, Float32) { ExpectWithin(DType::kFloat32, 1e-4); }

TEST_P(EncoderParity, Bfloat16) { ExpectWithin(DType::kBFloat16, 4e-2); }

TEST_P(EncoderParity, DenseLayersSeeWhatWasPooled) {
  if (classifies()) GTEST_SKIP() << "a classifier pools nothing";
  model_->config.pooling = Pooling::kMean;
  std::vector<EncoderInput> inputs = Inputs("mean");
  const int32_t size = model_->config.hidden_size;
  DenseModule twice;
  twice.config.in_size = size;
  twice.config.out_size = 2;
  twice.bias = {1.0f, -1.0f};
  twice.weight.assign(2 * size, 0.5f);
  std::fill(twice.weight.begin() + size, twice.weight.end(), -2.0f);
  model_->dense = {twice};
  for (EncoderInput& input : inputs) {
    const float sum = std::accumulate(input.expected.begin(), input.expected.end(), 0.0f);
    input.expected = {0.5f * sum + 1.0f, -2.0f * sum - 1.0f};
  }
  EXPECT_LE(Error(DType::kFloat32, inputs, {{0}, {1, 2}, {3, 4}}), 1e-4);
}

/// Some of it: a text takes seconds there.
class EmulatedEncoderParity : public EncoderParity {
 protected:
  EmulatedEncoderParity() { device_ = "cuda-emulated"; }
};

TEST_P(EmulatedEncoderParity, AloneAndInABatch) {
  const std::vector<EncoderInput> inputs = Inputs(classifies() ? "logit" : "mean");
  if (!classifies()) model_->config.pooling = Pooling::kMean;
  EXPECT_LE(Error(DType::kBFloat16, inputs, {{1}, {2, 0, 3}}), 4e-2);
}

INSTANTIATE_TEST_SUITE_P(Models, EmulatedEncoderParity,
                         ::testing::Values("bert", "xlm_roberta", "bert_reranker",
                                           "xlm_roberta_reranker", "qwen3_embedding"),
                         [](const auto& info) { return info.param; });

INSTANTIATE_TEST_SUITE_P(Models, EncoderParity,
                         ::testing::Values("bert", "xlm_roberta", "bert_reranker",
                                           "xlm_roberta_reranker", "qwen3_embedding"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace penstock
