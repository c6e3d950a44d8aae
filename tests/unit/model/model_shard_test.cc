#include "model/model_shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ModelConfig Config(const std::string& extra = "", int heads = 8, int kv_heads = 4) {
  const auto config = ParseModelConfig(
      absl::StrCat(R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 24,
        "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": )",
                   heads, R"(, "num_key_value_heads": )", kv_heads, R"(, "head_dim": 2,
        "vocab_size": 37, "max_position_embeddings": 64, )",
                   extra, R"("rms_norm_eps": 1e-5})"),
      "test");
  return config.value();
}

LayerLinears Linears(const ModelConfig& config, int32_t rank, int32_t size) {
  return ShardLinears(config, 0, {rank, size}, LinearsOf(config, 0, "l."));
}

TEST(ModelShard, QueriesGoWithTheirKeys) {
  const LayerLinears own = Linears(Config(), 1, 2);
  ASSERT_EQ(own.qkv.parts.size(), 3);
  EXPECT_THAT(own.qkv.parts[0].order, ElementsAre(8, 9, 10, 11, 12, 13, 14, 15));
  EXPECT_THAT(own.qkv.parts[1].order, ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(own.qkv.parts[2].order, ElementsAre(4, 5, 6, 7));
  EXPECT_EQ(own.qkv.parts[1].tensor_rows, 8);
  EXPECT_EQ(own.qkv.k, 24);
  EXPECT_EQ(own.o.k, 8);
  EXPECT_EQ(own.o.parts[0].k_begin, 8);
  EXPECT_EQ(own.o.parts[0].tensor_k, 16);
}

TEST(ModelShard, AKeyThatThereIsForFewerIsComputedByEachWhoAsksIt) {
  const ModelConfig config = Config("", 8, 2);
  for (int32_t rank = 0; rank < 4; ++rank) {
    const LayerLinears own = Linears(config, rank, 4);
    const int32_t head = rank / 2;  // two ranks' queries ask one
    EXPECT_THAT(own.qkv.parts[0].order,
                ElementsAre(4 * rank, 4 * rank + 1, 4 * rank + 2, 4 * rank + 3));
    EXPECT_THAT(own.qkv.parts[1].order, ElementsAre(2 * head, 2 * head + 1));
    const ModelConfig shard = ShardOf(config, {rank, 4});
    EXPECT_EQ(shard.layers[0].heads.num_heads, 2);
    EXPECT_EQ(shard.layers[0].heads.num_kv_heads, 1);
    EXPECT_EQ(shard.intermediate_size, 4);
  }
}

TEST(ModelShard, GateAndUpStayInPairs) {
  const LayerLinears own = Linears(Config(), 1, 4);
  ASSERT_EQ(own.gate_up.parts.size(), 2);
  EXPECT_THAT(own.gate_up.parts[0].order, ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(own.gate_up.parts[1].order, ElementsAre(4, 5, 6, 7));
  EXPECT_EQ(own.down.k, 4);
  EXPECT_EQ(own.down.parts[0].k_begin, 4);
}

TEST(ModelShard, RowsOfOneTensorAreTakenWhereTheyLie) {
  LayerLinear fused{{{.name = "qkv", .rows = 12}}, 3};
  TakeRows({2, 3, 9}, fused);
  ASSERT_EQ(fused.parts.size(), 1);
  EXPECT_THAT(fused.parts[0].order, ElementsAre(2, 3, 9));
  EXPECT_EQ(fused.parts[0].tensor_rows, 12);
  LayerLinear ordered{{{.name = "q", .rows = 4, .order = {3, 2, 1, 0}}, {.name = "k", .rows = 4}},
                      3};
  TakeRows({1, 6, 7}, ordered);
  EXPECT_THAT(ordered.parts[0].order, ElementsAre(2));
  EXPECT_THAT(ordered.parts[1].order, ElementsAre(2, 3));
}

TEST(ModelShard, EachTokenIsOneRanks) {
  const ModelConfig config = Config();
  for (const int32_t size : {2, 3, 4, 8}) {
    int64_t next = 0;
    for (int32_t rank = 0; rank < size; ++rank) {
      const auto [begin, count] = VocabularyOf(config, {rank, size});
      EXPECT_EQ(begin, next);
      next += count;
    }
    EXPECT_EQ(next, 37);
  }
}

TEST(ModelShard, SaysWhatCannotBeShared) {
  EXPECT_TRUE(CheckShards(Config(), 4).ok());
  EXPECT_TRUE(CheckShards(Config(), 8).ok());  // four KV heads, each of two ranks
  const absl::Status heads = CheckShards(Config("", 6, 2), 4);
  EXPECT_EQ(heads.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(heads.message(), HasSubstr("tensor_parallel: 4 is not served for LlamaForCausalLM: "
                                         "its 6 heads and 2 KV heads do not divide"));
  EXPECT_THAT(CheckShards(Config("", 6, 3), 2).message(), HasSubstr("3 KV heads"));
  EXPECT_THAT(CheckShards(Config("", 6, 3), 5).message(), HasSubstr("do not divide"));
  ModelConfig config = Config();
  config.intermediate_size = 15;
  EXPECT_THAT(CheckShards(config, 2).message(), HasSubstr("inner width of 15"));
  config = Config();
  config.qk_norm = QkNorm::kWhole;
  EXPECT_THAT(CheckShards(config, 2).message(), HasSubstr("over all heads"));
  config = Config();
  config.latent.kv_rank = 4;
  EXPECT_THAT(CheckShards(config, 2).message(), HasSubstr("latent attention"));
  config = Config();
  config.delta.num_value_heads = 4;
  EXPECT_THAT(CheckShards(config, 2).message(), HasSubstr("recurrent"));
  config = Config();
  config.encoder.present = true;
  EXPECT_THAT(CheckShards(config, 2).message(), HasSubstr("encoders"));
  EXPECT_TRUE(CheckShards(config, 1).ok());
}

}  // namespace
}  // namespace penstock
