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
  EXPECT_EQ(Values(experts + "gate_up_proj", {2, 1, 4}),
            (std::vector<float>{0, 10, 1, 11, 2, 12, 3, 13}));
  EXPECT_EQ(Values(experts + "gate_up_proj_bias", {2, 4}),
            (std::vector<float>{30, 40, 31, 41, 32, 42, 33, 43}));
  EXPECT_EQ(Values(experts + "down_proj", {2, 2, 1}), (std::vector<float>{20, 21, 22, 23}));
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
