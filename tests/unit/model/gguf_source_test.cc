#include "model/gguf_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "base/half.h"
#include "base/status_macros.h"
#include "fakes/gguf_writer.h"
#include "fakes/safetensors_writer.h"
#include "format/safetensors.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

std::string GgufFloats(int64_t count, float first) {
  std::vector<float> values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = first + static_cast<float>(i);
  return BytesOf(values);
}

/// The values of a tensor of any element type.
std::vector<float> GgufValuesOf(const HostTensor& tensor) {
  int64_t count = 1;
  for (const int64_t dim : tensor.shape) count *= dim;
  std::vector<float> out(count);
  for (int64_t i = 0; i < count; ++i) {
    if (tensor.dtype == DType::kFloat32) {
      std::memcpy(&out[i], static_cast<const char*>(tensor.data) + 4 * i, 4);
      continue;
    }
    uint16_t bits;
    std::memcpy(&bits, static_cast<const char*>(tensor.data) + 2 * i, 2);
    out[i] = tensor.dtype == DType::kBFloat16 ? Bf16ToFloat(bits) : Fp16ToFloat(bits);
  }
  return out;
}

class GgufSourceTest : public ::testing::Test {
 protected:
  void Start(std::string_view architecture) {
    writer_.AddString("general.architecture", architecture);
  }

  GgufSource& Source() {
    if (source_ == nullptr) {
      auto file = Gguf::Open(dir_.Write("m.gguf", writer_.Bytes()));
      CHECK(file.ok());
      auto source = GgufSource::Make(std::make_shared<const Gguf>(*std::move(file)));
      CHECK(source.ok());
      source_ = *std::move(source);
    }
    return *source_;
  }
  std::vector<float> Values(const std::string& name, const std::vector<int64_t>& shape) {
    const auto tensor = Source().Get(name, shape);
    EXPECT_TRUE(tensor.ok()) << tensor.status();
    return tensor.ok() ? GgufValuesOf(*tensor) : std::vector<float>{};
  }
  std::string Error(const std::string& name, const std::vector<int64_t>& shape) {
    return std::string(Source().Get(name, shape).status().message());
  }

  TempDir dir_;
  GgufWriter writer_;
  std::unique_ptr<GgufSource> source_;
};

TEST_F(GgufSourceTest, TurnsRowsOfQueriesAndKeysBack) {
  Start("llama");
  writer_.AddInt("llama.attention.head_count", 2);
  writer_.AddInt("llama.attention.head_count_kv", 1);
  // Rows of a head: the file has 0 2 1 3 of what the checkpoint calls 0 1 2 3.
  writer_.AddTensor("blk.0.attn_q.weight", GgmlType::kF32, {8, 1}, GgufFloats(8, 0));
  writer_.AddTensor("blk.0.attn_q.bias", GgmlType::kF32, {8}, GgufFloats(8, 10));
  writer_.AddTensor("blk.0.attn_k.weight", GgmlType::kF16, {4, 1},
                    std::string("\0\0\0\1\0\2\0\3", 8));
  writer_.AddTensor("blk.0.attn_v.weight", GgmlType::kF32, {4, 1}, GgufFloats(4, 0));
  EXPECT_EQ(Values("model.layers.0.self_attn.q_proj.weight", {8, 1}),
            (std::vector<float>{0, 2, 1, 3, 4, 6, 5, 7}));
  EXPECT_EQ(Values("model.layers.0.self_attn.q_proj.bias", {8}),
            (std::vector<float>{10, 12, 11, 13, 14, 16, 15, 17}));
  const auto k = Source().Get("model.layers.0.self_attn.k_proj.weight", {4, 1});
  ASSERT_TRUE(k.ok()) << k.status();
  EXPECT_EQ(k->dtype, DType::kFloat16);
  EXPECT_EQ(std::memcmp(k->data, "\0\0\0\2\0\1\0\3", 8), 0);
  EXPECT_EQ(Values("model.layers.0.self_attn.v_proj.weight", {4, 1}),
            (std::vector<float>{0, 1, 2, 3}));
}

TEST_F(GgufSourceTest, LeavesRowsOfOtherFamiliesAlone) {
  Start("qwen2");
  writer_.AddTensor("blk.3.attn_q.weight", GgmlType::kF32, {4, 1}, GgufFloats(4, 0));
  writer_.AddTensor("output_norm.weight", GgmlType::kF32, {2}, GgufFloats(2, 1));
  EXPECT_EQ(Values("model.layers.3.self_attn.q_proj.weight", {4, 1}),
            (std::vector<float>{0, 1, 2, 3}));
  EXPECT_EQ(Values("model.norm.weight", {2}), (std::vector<float>{1, 2}));
}

TEST_F(GgufSourceTest, TakesOneFromGemmasNorms) {
  Start("gemma3");
  writer_.AddTensor("output_norm.weight", GgmlType::kF32, {2}, GgufFloats(2, 1));
  writer_.AddTensor("blk.0.attn_q_norm.weight", GgmlType::kF32, {2}, GgufFloats(2, 3));
  writer_.AddTensor("blk.0.post_ffw_norm.weight", GgmlType::kF32, {2}, GgufFloats(2, 5));
  EXPECT_EQ(Values("model.norm.weight", {2}), (std::vector<float>{0, 1}));
  EXPECT_EQ(Values("model.layers.0.self_attn.q_norm.weight", {2}), (std::vector<float>{2, 3}));
  EXPECT_EQ(Values("model.layers.0.post_feedforward_layernorm.weight", {2}),
            (std::vector<float>{4, 5}));
}

TEST_F(GgufSourceTest, FindsAnExpertInItsStack) {
  Start("qwen2moe");
  writer_.AddTensor("blk.0.ffn_down_exps.weight", GgmlType::kF32, {3, 2, 2}, GgufFloats(12, 0));
  writer_.AddTensor("blk.0.ffn_gate_inp_shexp.weight", GgmlType::kF32, {2}, GgufFloats(2, 7));
  EXPECT_EQ(Values("model.layers.0.mlp.experts.1.down_proj.weight", {2, 2}),
            (std::vector<float>{4, 5, 6, 7}));
  EXPECT_EQ(Values("model.layers.0.mlp.shared_expert_gate.weight", {1, 2}),
            (std::vector<float>{7, 8}));
  EXPECT_THAT(Error("model.layers.0.mlp.experts.3.down_proj.weight", {2, 2}),
              HasSubstr("has 3 experts, no expert 3"));
  EXPECT_THAT(Error("model.layers.0.mlp.experts.0.down_proj.weight", {4, 1}),
              HasSubstr("has shape [3, 2, 2], the metadata asks for [3, 4, 1]"));
}

TEST_F(GgufSourceTest, FindsExpertsOfOlderFiles) {
  Start("llama");
  writer_.AddInt("llama.attention.head_count", 1);
  writer_.AddInt("llama.expert_count", 2);
  writer_.AddTensor("blk.0.ffn_gate.1.weight", GgmlType::kF32, {1, 2}, GgufFloats(2, 4));
  EXPECT_TRUE(Source().Has("model.layers.0.block_sparse_moe.experts.1.w1.weight"));
  EXPECT_EQ(Values("model.layers.0.block_sparse_moe.experts.1.w1.weight", {1, 2}),
            (std::vector<float>{4, 5}));
}

TEST_F(GgufSourceTest, StacksGptOssExpertsAsItsCheckpointDoes) {
  Start("gpt-oss");
  writer_.AddTensor("blk.0.ffn_gate_exps.weight", GgmlType::kF32, {2, 2, 1}, GgufFloats(4, 0));
  writer_.AddTensor("blk.0.ffn_up_exps.weight", GgmlType::kF32, {2, 2, 1}, GgufFloats(4, 10));
  writer_.AddTensor("blk.0.ffn_down_exps.weight", GgmlType::kF32, {2, 1, 2}, GgufFloats(4, 20));
  writer_.AddTensor("blk.0.ffn_gate_exps.bias", GgmlType::kF32, {2, 2}, GgufFloats(4, 30));
  writer_.AddTensor("blk.0.ffn_up_exps.bias", GgmlType::kF32, {2, 2}, GgufFloats(4, 40));
  const std::string experts = "model.layers.0.mlp.experts.";
  EXPECT_EQ(Values(experts + "gate_up_proj_bias", {2, 4}),
            (std::vector<float>{30, 40, 31, 41, 32, 42, 33, 43}));
  EXPECT_TRUE(Source().Has(experts + "gate_up_proj_bias"));
  EXPECT_FALSE(Source().Has(experts + "gate_up_proj"));
  const auto down = Source().FindLinear(experts + "down_proj", {2, 1, 2}, 1);
  ASSERT_TRUE(down.ok()) << down.status();
  EXPECT_EQ(GgufValuesOf(down->plain), (std::vector<float>{22, 23}));
  const auto second = Source().FindLinear(experts + "gate_up_proj", {2, 4, 1}, 1);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(GgufValuesOf(second->plain), (std::vector<float>{2, 12, 3, 13}));
  EXPECT_FALSE(Source().FindLinear(experts + "gate_up_proj", {2, 4, 1}, 2).ok());
}

TEST_F(GgufSourceTest, OffersQuantisedLayersAsCodesInTheCheckpointsOrder) {
  const auto blocks = Gguf::Open(PENSTOCK_SOURCE_DIR "/tests/goldens/ggml_blocks.gguf");
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  Start("llama");
  writer_.AddInt("llama.attention.head_count", 1);
  for (const char* type : {"Q4_K", "Q6_K", "MXFP4"}) {
    const GgufTensor* t = blocks->FindTensor(std::string(type) + ".blocks");
    const std::string rows(reinterpret_cast<const char*>(t->data.data()), t->data.size());
    writer_.AddTensor(type == std::string("Q4_K")   ? "blk.0.attn_q.weight"
                      : type == std::string("Q6_K") ? "blk.0.attn_k.weight"
                                                    : "blk.0.attn_v.weight",
                      t->type, {4, 256}, rows + rows);
  }
  for (const std::string name : {"q", "k", "v"}) {
    const std::string layer = "model.layers.0.self_attn." + name + "_proj";
    const auto linear = Source().FindLinear(layer, {4, 256}, -1);
    ASSERT_TRUE(linear.ok()) << linear.status();
    ASSERT_NE(linear->codes, nullptr) << name;
    std::vector<float> got(4 * 256);
    Dequantize(*linear->codes, 0, 1, got.data());
    Dequantize(*linear->codes, 1, 3, got.data() + 256);
    EXPECT_EQ(got, Values(layer + ".weight", {4, 256})) << name;
  }
  // Rows 0 1 0 1 of the file, turned: 0 0 1 1.
  const std::vector<float> q = Values("model.layers.0.self_attn.q_proj.weight", {4, 256});
  std::vector<float> expected(512);
  std::memcpy(expected.data(), blocks->FindTensor("Q4_K.values")->data.data(), 2048);
  EXPECT_TRUE(std::equal(q.begin(), q.begin() + 256, expected.begin()));
  EXPECT_TRUE(std::equal(q.begin() + 256, q.begin() + 512, expected.begin()));
  EXPECT_TRUE(std::equal(q.begin() + 512, q.begin() + 768, expected.begin() + 256));
}

TEST_F(GgufSourceTest, JoinsTheHalvesOfLatentAttention) {
  Start("deepseek2");
  writer_.AddInt("deepseek2.attention.head_count", 2);
  // Keys [heads, rank, dim] and values [heads, dim, rank] of rank 2 and dimensions 3 and 1.
  writer_.AddTensor("blk.0.attn_k_b.weight", GgmlType::kF32, {2, 2, 3}, GgufFloats(12, 0));
  writer_.AddTensor("blk.0.attn_v_b.weight", GgmlType::kF32, {2, 1, 2}, GgufFloats(4, 20));
  writer_.AddTensor("blk.1.attn_kv_b.weight", GgmlType::kF32, {8, 2}, GgufFloats(16, 0));
  writer_.AddTensor("blk.1.exp_probs_b.bias", GgmlType::kF32, {2}, GgufFloats(2, 5));
  const auto joined = Source().FindLinear("model.layers.0.self_attn.kv_b_proj", {8, 2}, -1);
  ASSERT_TRUE(joined.ok()) << joined.status();
  EXPECT_EQ(GgufValuesOf(joined->plain),
            (std::vector<float>{0, 3, 1, 4, 2, 5, 20, 21, 6, 9, 7, 10, 8, 11, 22, 23}));
  const auto old = Source().FindLinear("model.layers.1.self_attn.kv_b_proj", {8, 2}, -1);
  ASSERT_TRUE(old.ok()) << old.status();
  EXPECT_EQ(GgufValuesOf(old->plain)[15], 15.0f);
  EXPECT_EQ(Values("model.layers.1.mlp.gate.e_score_correction_bias", {2}),
            (std::vector<float>{5, 6}));
  EXPECT_THAT(
      Source().FindLinear("model.layers.0.self_attn.kv_b_proj", {2, 2}, -1).status().message(),
      HasSubstr("\"blk.0.attn_v_b.weight\" expected [2, fewer than 1, 2]"));
  EXPECT_THAT(
      Source().FindLinear("model.layers.0.self_attn.kv_b_proj", {10, 2}, -1).status().message(),
      HasSubstr("\"blk.0.attn_k_b.weight\" has shape [2, 2, 3], the metadata asks for [2, 2, 4]"));
}

TEST_F(GgufSourceTest, PutsValueHeadsBackBesideTheirKeyHeads) {
  Start("qwen35");
  writer_.AddInt("qwen35.ssm.group_count", 2);
  writer_.AddInt("qwen35.ssm.time_step_rank", 4);
  writer_.AddInt("qwen35.ssm.state_size", 1);
  writer_.AddInt("qwen35.ssm.inner_size", 8);  // value heads of two rows
  writer_.AddTensor("blk.0.attn_qkv.weight", GgmlType::kF32, {12, 1}, GgufFloats(12, 0));
  writer_.AddTensor("blk.0.attn_gate.weight", GgmlType::kF32, {8, 1}, GgufFloats(8, 0));
  writer_.AddTensor("blk.0.ssm_conv1d.weight", GgmlType::kF32, {12, 2}, GgufFloats(24, 0));
  writer_.AddTensor("blk.0.ssm_alpha.weight", GgmlType::kF32, {4, 1}, GgufFloats(4, 0));
  writer_.AddTensor("blk.0.ssm_a", GgmlType::kF32, {4},
                    BytesOf(std::vector<float>{-1.0f, -2.0f, -4.0f, -8.0f}));
  writer_.AddTensor("blk.1.ssm_a", GgmlType::kF32, {4}, BytesOf(std::vector<float>{-1, -1, 0, -1}));
  writer_.AddTensor("blk.0.ssm_dt.bias", GgmlType::kF32, {4}, GgufFloats(4, 0));
  writer_.AddTensor("blk.0.ssm_out.weight", GgmlType::kF16, {1, 8},
                    std::string("\0\0\0\1\0\2\0\3\0\4\0\5\0\6\0\7", 16));
  writer_.AddTensor("blk.0.ssm_norm.weight", GgmlType::kF32, {2}, GgufFloats(2, 3));
  writer_.AddTensor("blk.0.post_attention_norm.weight", GgmlType::kF32, {2}, GgufFloats(2, 3));
  const std::string delta = "model.layers.0.linear_attn.";
  // The file has heads a0 b0 a1 b1 of what the checkpoint has as a0 a1 b0 b1.
  EXPECT_EQ(Values(delta + "in_proj_qkv.weight", {12, 1}),
            (std::vector<float>{0, 1, 2, 3, 4, 5, 8, 9, 6, 7, 10, 11}));
  EXPECT_EQ(Values(delta + "in_proj_z.weight", {8, 1}),
            (std::vector<float>{0, 1, 4, 5, 2, 3, 6, 7}));
  EXPECT_EQ(Values(delta + "conv1d.weight", {12, 1, 2})[12], 16.0f);
  EXPECT_EQ(Values(delta + "in_proj_a.weight", {4, 1}), (std::vector<float>{0, 2, 1, 3}));
  EXPECT_EQ(Values(delta + "dt_bias", {4}), (std::vector<float>{0, 2, 1, 3}));
  EXPECT_FLOAT_EQ(Values(delta + "A_log", {4})[1], std::log(4.0f));
  EXPECT_THAT(Error("model.layers.1.linear_attn.A_log", {4}), HasSubstr("negative numbers"));
  const auto out = Source().FindLinear(delta + "out_proj", {1, 8}, -1);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(std::memcmp(out->plain.data, "\0\0\0\1\0\4\0\5\0\2\0\3\0\6\0\7", 16), 0);
  EXPECT_EQ(Values(delta + "norm.weight", {2}), (std::vector<float>{3, 4}));
  EXPECT_EQ(Values("model.layers.0.post_attention_layernorm.weight", {2}),
            (std::vector<float>{2, 3}));
  EXPECT_THAT(Error(delta + "in_proj_z.weight", {4, 2}), HasSubstr("has shape [8, 1]"));
}

TEST_F(GgufSourceTest, OrdersColumnsOfCodesByTheInput) {
  const auto blocks = Gguf::Open(PENSTOCK_SOURCE_DIR "/tests/goldens/ggml_blocks.gguf");
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  Start("qwen35");
  writer_.AddInt("qwen35.ssm.group_count", 2);
  writer_.AddInt("qwen35.ssm.time_step_rank", 4);
  writer_.AddInt("qwen35.ssm.state_size", 1);
  writer_.AddInt("qwen35.ssm.inner_size", 256);
  const GgufTensor* t = blocks->FindTensor("Q4_K.blocks");
  writer_.AddTensor("blk.0.ssm_out.weight", t->type, {2, 256},
                    std::string(reinterpret_cast<const char*>(t->data.data()), t->data.size()));
  const auto out = Source().FindLinear("model.layers.0.linear_attn.out_proj", {2, 256}, -1);
  ASSERT_TRUE(out.ok()) << out.status();
  ASSERT_NE(out->codes, nullptr);
  std::vector<float> got(512), file(512);
  Dequantize(*out->codes, 0, 2, got.data());
  std::memcpy(file.data(), blocks->FindTensor("Q4_K.values")->data.data(), 2048);
  for (int64_t c = 0; c < 256; ++c) {
    const int64_t from = c / 64 == 1 ? c + 64 : c / 64 == 2 ? c - 64 : c;  // the middle heads
    EXPECT_EQ(got[c], file[from]) << c;
    EXPECT_EQ(got[256 + c], file[256 + from]) << c;
  }
}

TEST_F(GgufSourceTest, KnowsGpt2sNames) {
  Start("gpt2");
  writer_.AddTensor("position_embd.weight", GgmlType::kF32, {2, 1}, GgufFloats(2, 0));
  writer_.AddTensor("blk.2.attn_qkv.bias", GgmlType::kF32, {3}, GgufFloats(3, 1));
  writer_.AddTensor("blk.2.attn_output.weight", GgmlType::kF32, {1, 2}, GgufFloats(2, 4));
  EXPECT_EQ(Values("transformer.wpe.weight", {2, 1}), (std::vector<float>{0, 1}));
  EXPECT_EQ(Values("transformer.h.2.attn.c_attn.bias", {3}), (std::vector<float>{1, 2, 3}));
  EXPECT_FALSE(Source().keeps_in_out_order());
  const auto out = Source().FindLinear("transformer.h.2.attn.c_proj", {1, 2}, -1);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(GgufValuesOf(out->plain), (std::vector<float>{4, 5}));
}

TEST_F(GgufSourceTest, NamesWhatItCannotGive) {
  Start("llama");
  writer_.AddInt("llama.attention.head_count", 3);
  writer_.AddTensor("blk.0.attn_q.weight", GgmlType::kF32, {4, 1}, GgufFloats(4, 0));
  writer_.AddTensor("token_embd.weight", static_cast<GgmlType>(23), {1, 256}, std::string(136, 0));
  EXPECT_THAT(Error("model.layers.0.self_attn.q_proj.weight", {4, 1}),
              HasSubstr("has 4 rows, expected an even number for each of 3 heads"));
  EXPECT_THAT(Error("model.embed_tokens.weight", {1, 256}),
              HasSubstr("\"token_embd.weight\" is IQ4_XS, which is not one of F32"));
  EXPECT_THAT(Error("model.norm.weight", {4}),
              HasSubstr("m.gguf: tensor \"output_norm.weight\" is missing"));
  EXPECT_THAT(Error("model.layers.0.mlp.fc1.weight", {4}), HasSubstr("no tensor of a GGUF file"));
  EXPECT_THAT(Error("model.layers.99999999999999999999.mlp.gate.weight", {4}),
              HasSubstr("no tensor of a GGUF file"));
  EXPECT_FALSE(Source().Has("lm_head.weight"));
  EXPECT_TRUE(Source().Has("model.embed_tokens.weight"));
}

class GgufStories : public ::testing::TestWithParam<std::pair<std::string, float>> {};

TEST_P(GgufStories, HasTheValuesOfTheCheckpoint) {
  const auto& [type, tolerance] = GetParam();
  const std::string dir = std::string(PENSTOCK_SHARED_DATA) + "/models/stories260K/";
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << dir << " is not there";
  auto file = Gguf::Open(dir + "gguf/stories260K-" + type + ".gguf");
  ASSERT_TRUE(file.ok()) << file.status();
  const auto source = GgufSource::Make(std::make_shared<const Gguf>(*std::move(file)));
  ASSERT_TRUE(source.ok()) << source.status();
  const auto hub = Safetensors::OpenModel(dir + "hf");
  ASSERT_TRUE(hub.ok()) << hub.status();
  EXPECT_EQ(hub->entries().size(), 47u);
  for (const auto& [name, entry] : hub->entries()) {
    const std::vector<float> expected =
        GgufValuesOf({entry.dtype, entry.shape, entry.data.data(), nullptr});
    const auto tensor = (*source)->Get(name, entry.shape);
    ASSERT_TRUE(tensor.ok()) << tensor.status();
    const std::vector<float> got = GgufValuesOf(*tensor);
    double error = 0;
    double norm = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      error += (got[i] - expected[i]) * (got[i] - expected[i]);
      norm += expected[i] * expected[i];
    }
    EXPECT_LE(std::sqrt(error / norm), tolerance) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, GgufStories,
                         ::testing::Values(std::pair<std::string, float>("F32", 0.0f),
                                           std::pair<std::string, float>("F16", 4e-4f),
                                           std::pair<std::string, float>("Q8_0", 1e-2f)),
                         [](const auto& info) { return info.param.first; });

}  // namespace
}  // namespace penstock
