#include "model/gguf_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/gguf_model.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

TEST(GgufKeys, NamesKeysThatAnArchitectureDoesNotRead) {
  const auto with = [](const char* arch, const char* key, auto add) {
    GgufWriter writer = GgufModel(arch);
    add(writer, std::string(arch) + "." + key);
    return GgufConfigError(writer);
  };
  const auto seven = [](GgufWriter& w, const std::string& key) { w.AddInt(key, 7); };
  const auto half = [](GgufWriter& w, const std::string& key) { w.AddFloat(key, 0.5f); };
  const auto text = [](GgufWriter& w, const std::string& key) { w.AddString(key, "gelu"); };
  for (const char* key : {"attention.sliding_window", "expert_count", "expert_used_count",
                          "rope.dimension_count_swa", "attention.rope_pattern", "ssm.state_size",
                          "leading_dense_block_count", "attention.key_length_swa", "num_loops",
                          "moe_every_n_layers", "attention.kv_lora_rank", "pooling_type"}) {
    EXPECT_THAT(with("qwen3", key, seven),
                HasSubstr(std::string("m.gguf: qwen3.") + key + ": is not supported for qwen3"));
  }
  for (const char* key :
       {"attn_logit_softcapping", "final_logit_softcapping", "attention.scale",
        "router_logit_softcapping", "attention.temperature_scale", "rope.freq_base_swa"}) {
    EXPECT_THAT(with("qwen3", key, half), HasSubstr("is not supported for qwen3")) << key;
  }
  EXPECT_THAT(with("qwen3", "hidden_activation", text), HasSubstr("is not supported for qwen3"));
  GgufWriter yarn = GgufModel("qwen3");
  yarn.AddString("qwen3.rope.scaling.type", "yarn");
  yarn.AddFloat("qwen3.rope.scaling.factor", 4.0f);
  yarn.AddFloat("qwen3.rope.scaling.yarn_log_multiplier", 1.0f);
  EXPECT_THAT(GgufConfigError(yarn), HasSubstr("yarn_log_multiplier: is not supported for qwen3"));
}

TEST(GgufKeys, ListsKeysThatChangeNothing) {
  GgufWriter writer = GgufModel("qwen3");
  writer.AddInt("qwen3.attention.sliding_window", 512);  // the whole context
  writer.AddInt("qwen3.expert_count", 0);
  writer.AddInt("qwen3.rope.dimension_count", 8);
  writer.AddInt("qwen3.vocab_size", 5);
  writer.AddFloat("qwen3.attention.scale", 0.35355338f);
  writer.AddFloat("qwen3.final_logit_softcapping", 0.0f);
  writer.AddFloat("qwen3.logit_scale", 1.0f);
  writer.AddFloat("qwen3.rope.freq_base_swa", 10000.0f);
  writer.AddArray("qwen3.rope.dimension_sections", GgufType::kInt32, 2,
                  GgufNumber<int32_t>(3) + GgufNumber<int32_t>(1));
  writer.AddInt("qwen3.invented_since", 3);
  const TempDir dir;
  const auto file = Gguf::Open(dir.Write("m.gguf", writer.Bytes()));
  ASSERT_TRUE(file.ok()) << file.status();
  const auto ignored = GgufIgnoredKeys(*file);
  ASSERT_TRUE(ignored.ok()) << ignored.status();
  EXPECT_THAT(
      *ignored,
      ::testing::UnorderedElementsAre(
          "qwen3.attention.sliding_window", "qwen3.expert_count", "qwen3.vocab_size",
          "qwen3.attention.scale", "qwen3.final_logit_softcapping", "qwen3.logit_scale",
          "qwen3.rope.freq_base_swa", "qwen3.rope.dimension_sections", "qwen3.invented_since"));
}

}  // namespace
}  // namespace penstock
