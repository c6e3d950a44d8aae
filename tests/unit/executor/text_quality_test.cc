#include "executor/text_quality.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "fakes/tiny_model.h"

namespace penstock {
namespace {

std::unique_ptr<LoadedModel> LoadWide(WorkerPool* pool, const std::string& quantize) {
  TempDir dir;
  dir.Write("config.json", R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 128,
    "intermediate_size": 200, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 317, "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0})");
  LoadOptions load;
  load.model_dir = dir.path();
  load.weights = "formula";
  load.quantize = quantize;
  load.pool = pool;
  auto model = LoadModel(load);
  CHECK(model.ok());
  return *std::move(model);
}

TEST(TextQuality, AModelAgreesWithItself) {
  WorkerPool pool(2);
  const auto model = LoadWide(&pool, "none");
  const auto q = MeasureTextQuality({model.get()}, {model.get()}, TinyPrompt(200, 1), 64);
  ASSERT_TRUE(q.ok()) << q.status();
  EXPECT_EQ(q->num_predictions, 3 * 31);
  EXPECT_EQ(q->perplexity, q->reference_perplexity);
  EXPECT_NEAR(q->mean_kl, 0, 1e-12);
  EXPECT_EQ(q->same_top1, 1);
  EXPECT_GT(q->perplexity, 100);  // random weights over 317 tokens
}

TEST(TextQuality, CoarserWeightsAreFurtherAway) {
  WorkerPool pool(2);
  const auto reference = LoadWide(&pool, "none");
  double last = 0;
  for (const char* form : {"int8", "int4", "int4-128"}) {
    const auto model = LoadWide(&pool, form);
    const auto q = MeasureTextQuality({model.get()}, {reference.get()}, TinyPrompt(256, 2), 128);
    ASSERT_TRUE(q.ok()) << q.status();
    EXPECT_GT(q->mean_kl, last) << form;
    EXPECT_GE(q->p99_kl, q->mean_kl) << form;
    EXPECT_LT(q->mean_kl, 0.05) << form;
    last = q->mean_kl;
  }
}

TEST(TextQuality, RefusesAShortTextAndAnotherVocabulary) {
  WorkerPool pool(1);
  const auto model = LoadTinyModel(&pool);
  const auto status = MeasureTextQuality({model.get()}, {}, TinyPrompt(10, 1), 64).status();
  EXPECT_THAT(std::string(status.message()),
              ::testing::HasSubstr("10 tokens, expected at least one window of 64"));
}

}  // namespace
}  // namespace penstock
