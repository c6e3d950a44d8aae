#include "model/prediction_head.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/make_backend.h"
#include "executor/load_model.h"
#include "fakes/head_checkpoint.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PredictionHeadTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<LoadedModel>> Load(const HeadCheckpoint& checkpoint,
                                                    LoadHeads heads, int32_t ranks = 1) {
    const TempDir dir;
    checkpoint.Write(dir);
    return LoadIn(dir, heads, ranks);
  }
  absl::StatusOr<std::unique_ptr<LoadedModel>> LoadIn(const TempDir& dir, LoadHeads heads,
                                                      int32_t ranks = 1) {
    LoadOptions load;
    load.model_dir = dir.path();
    load.heads = heads;
    load.device = device_;
    load.tensor_parallel = ranks;
    load.pool = &pool_;
    return LoadModel(load);
  }

  WorkerPool pool_{2};
  std::string device_ = "cpu";
};

TEST_F(PredictionHeadTest, IsLoadedWhereItIsWanted) {
  for (const HeadKind kind :
       {HeadKind::kDeepSeek, HeadKind::kGlm, HeadKind::kQwen, HeadKind::kQwenDelta}) {
    const HeadCheckpoint checkpoint(kind);
    for (const LoadHeads heads : {LoadHeads::kIfAny, LoadHeads::kRequired}) {
      const auto model = Load(checkpoint, heads);
      ASSERT_TRUE(model.ok()) << model.status();
      ASSERT_NE((*model)->head, nullptr);
      EXPECT_EQ((*model)->no_head, "");
      EXPECT_EQ((*model)->head->config.layers.size(), 1u);
      EXPECT_THAT((*model)->unread.prediction_layers, IsEmpty());
    }
    const auto without = Load(checkpoint, LoadHeads::kNone);
    ASSERT_TRUE(without.ok()) << without.status();
    EXPECT_EQ((*without)->head, nullptr);
    EXPECT_EQ((*without)->unread.prediction_layers.size(), 1u);
  }
}

TEST_F(PredictionHeadTest, SharesTableAndHeadWhereTheyAreTheSame) {
  HeadCheckpoint checkpoint(HeadKind::kDeepSeek);
  auto model = Load(checkpoint, LoadHeads::kRequired);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->head->tables, &(*model)->weights);
  EXPECT_EQ(&(*model)->head->weights.head(), &(*model)->weights.lm_head);
  checkpoint.tensors.at("model.layers.2.shared_head.head.weight").values[5] += 1.0f;
  model = Load(checkpoint, LoadHeads::kRequired);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->head->tables, &(*model)->weights);
  EXPECT_EQ((*model)->head->weights.head().n, kHeadVocab);
  EXPECT_NE(&(*model)->head->weights.head(), &(*model)->weights.lm_head);
  checkpoint.tensors.at("model.layers.2.embed_tokens.weight").values[5] += 1.0f;
  model = Load(checkpoint, LoadHeads::kRequired);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->head->tables, &(*model)->head->weights);
  EXPECT_EQ((*model)->head->tables->embedding.rows, kHeadVocab);
}

TEST_F(PredictionHeadTest, ThatIsNotThereIsAnErrorOnlyWhereItIsAskedFor) {
  HeadCheckpoint checkpoint(HeadKind::kGlm);
  std::erase_if(checkpoint.tensors,
                [](const auto& tensor) { return tensor.first.starts_with("model.layers.2."); });
  const auto model = Load(checkpoint, LoadHeads::kIfAny);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->head, nullptr);
  EXPECT_THAT((*model)->no_head, HasSubstr("no prediction head"));
  EXPECT_EQ(
      Load(checkpoint, LoadHeads::kRequired).status().message(),
      "engine.speculation.method: mtp: the checkpoint has no prediction head of a kind that is "
      "known for Glm4MoeForCausalLM");
}

TEST_F(PredictionHeadTest, ThatIsNotWholeIsNamed) {
  HeadCheckpoint checkpoint(HeadKind::kQwen);
  checkpoint.tensors.erase("mtp.layers.0.mlp.up_proj.weight");
  const auto model = Load(checkpoint, LoadHeads::kIfAny);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->head, nullptr);
  EXPECT_THAT((*model)->no_head, HasSubstr("mtp.layers.0.mlp.up_proj.weight"));
  EXPECT_THAT((*model)->unread.prediction_layers, ::testing::Not(IsEmpty()));
  EXPECT_THAT(std::string(Load(checkpoint, LoadHeads::kRequired).status().message()),
              HasSubstr("mtp: "));
  checkpoint = HeadCheckpoint(HeadKind::kQwen);
  checkpoint.tensors.at("mtp.fc.weight").shape = {2 * kHeadHidden, kHeadHidden};
  EXPECT_THAT(std::string(Load(checkpoint, LoadHeads::kRequired).status().message()),
              HasSubstr("mtp.fc.weight"));
}

TEST_F(PredictionHeadTest, DoesNotServeSeveralRanks) {
  const HeadCheckpoint checkpoint(HeadKind::kGlm);
  const auto model = Load(checkpoint, LoadHeads::kIfAny, 2);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->head, nullptr);
  EXPECT_THAT((*model)->no_head, HasSubstr("tensor_parallel"));
  EXPECT_EQ((*model)->unread.prediction_layers.size(), 1u);
  EXPECT_EQ(Load(checkpoint, LoadHeads::kRequired, 2).status().code(),
            absl::StatusCode::kUnimplemented);
}

TEST_F(PredictionHeadTest, MakesADeviceHoldStatesTwiceOnlyWhereItIsAskedFor) {
  if (absl::IsUnavailable(OpenBackend({"cuda-emulated", &pool_}).status()))
    GTEST_SKIP() << "no emulated device in this build";
  device_ = "cuda-emulated";
  const HeadCheckpoint checkpoint(HeadKind::kQwenDelta);
  auto model = Load(checkpoint, LoadHeads::kIfAny);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->head, nullptr);
  EXPECT_THAT((*model)->no_head, HasSubstr("each recurrent state twice"));
  model = Load(checkpoint, LoadHeads::kRequired);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_NE((*model)->head, nullptr);
  model = Load(HeadCheckpoint(HeadKind::kQwen), LoadHeads::kIfAny);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_NE((*model)->head, nullptr);
}

TEST_F(PredictionHeadTest, DoesNotServeWhereNoLayerIsLikeIt) {
  TempDir dir;
  std::string config = HeadConfig(HeadKind::kQwen, 2, false);
  for (size_t at = 0; (at = config.find("full_attention")) != config.npos;)
    config.replace(at, 4, "linear");
  HeadCheckpoint(HeadKind::kQwen).Write(dir, config);
  const auto source = MakeFileSource(dir.path());
  ASSERT_TRUE(source.ok()) << source.status();
  const absl::Status can = CanPredict(*ParseModelConfig(config, "config.json"), **source);
  EXPECT_EQ(can.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(can.message()), HasSubstr("attention"));
}

}  // namespace
}  // namespace penstock
