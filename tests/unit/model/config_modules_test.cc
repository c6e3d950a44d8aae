#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "fakes/safetensors_writer.h"
#include "fakes/tiny_model.h"
#include "model/dense_modules.h"
#include "model/model_config.h"

namespace penstock {
namespace {

using ::testing::FloatEq;
using ::testing::HasSubstr;

constexpr const char* kPooled = R"({"type": "sentence_transformers.models.Transformer", "path": ""},
    {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"})";
constexpr const char* kDense =
    R"({"type": "sentence_transformers.models.Dense", "path": "2_Dense"})";
constexpr const char* kNormalize =
    R"({"type": "sentence_transformers.models.Normalize", "path": "3_Normalize"})";

/// A model of 40 dimensions with modules.json of `modules`.
class ConfigModules : public ::testing::Test {
 protected:
  ConfigModules() {
    dir_.Write("config.json", TinyConfig());
    for (const char* folder : {"/1_Pooling", "/2_Dense", "/3_Dense"})
      std::filesystem::create_directory(dir_.path() + folder);
    dir_.Write("1_Pooling/config.json", R"({"pooling_mode_mean_tokens": true})");
  }
  absl::StatusOr<ModelConfig> Load(const std::vector<std::string>& modules) {
    std::string list;
    for (const std::string& module : modules) list += (list.empty() ? "[" : ", ") + module;
    dir_.Write("modules.json", list + "]");
    return LoadModelConfig(dir_.path());
  }
  std::string Error(const std::vector<std::string>& modules) {
    return std::string(Load(modules).status().message());
  }

  TempDir dir_;
};

TEST_F(ConfigModules, TakeTheShorterOfPositionsAndInputs) {
  const auto all = Load({kPooled});
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->context(), 512);
  dir_.Write("sentence_bert_config.json", R"({"max_seq_length": 128, "do_lower_case": false})");
  const auto fewer = Load({kPooled});
  ASSERT_TRUE(fewer.ok()) << fewer.status();
  EXPECT_EQ(fewer->context(), 128);
  EXPECT_EQ(fewer->max_positions, 512);
  EXPECT_FALSE(fewer->lowercase);
  dir_.Write("sentence_bert_config.json", R"({"max_seq_length": 4096, "do_lower_case": true})");
  EXPECT_TRUE(Load({kPooled})->lowercase);
  EXPECT_EQ(Load({kPooled})->context(), 512);
  dir_.Write("sentence_bert_config.json", R"({"max_seq_length": null})");
  EXPECT_EQ(Load({kPooled})->context(), 512);
  for (const char* text : {R"({"max_seq_length": -1})", R"({"max_seq_length": "many"})", "[]"}) {
    dir_.Write("sentence_bert_config.json", text);
    EXPECT_THAT(Error({kPooled}), HasSubstr("sentence_bert_config.json: ")) << text;
  }
  std::filesystem::remove(dir_.path() + "/modules.json");
  EXPECT_EQ(LoadModelConfig(dir_.path())->context(), 512);  // a plain model's file says nothing
}

TEST_F(ConfigModules, ReadDenseLayers) {
  dir_.Write("2_Dense/config.json", R"({"in_features": 40, "out_features": 96, "bias": false,
      "activation_function": "torch.nn.modules.linear.Identity"})");
  dir_.Write("3_Dense/config.json", R"({"in_features": 96, "out_features": 8})");
  std::string second = kDense;
  second.replace(second.find("2_Dense"), 7, "3_Dense");
  const auto c = Load({kPooled, kDense, second, kNormalize});
  ASSERT_TRUE(c.ok()) << c.status();
  ASSERT_EQ(c->dense.size(), 2u);
  EXPECT_EQ(c->dense[0].out_size, 96);
  EXPECT_FALSE(c->dense[0].bias);
  EXPECT_FALSE(c->dense[0].tanh);
  EXPECT_TRUE(c->dense[1].bias);
  EXPECT_TRUE(c->dense[1].tanh);  // what the layer has where the file does not say
  EXPECT_TRUE(c->normalize);
  EXPECT_THAT(Error({kPooled, second}),
              HasSubstr("3_Dense/config.json: in_features: is 96, expected 40"));
  EXPECT_THAT(Error({kPooled, kNormalize, kDense}),
              HasSubstr("Dense\" is not supported behind one that normalizes"));
}

TEST_F(ConfigModules, RefuseOtherModulesAndActivationsByName) {
  EXPECT_THAT(Error({kPooled, R"({"type": "sentence_transformers.models.LSTM", "path": "x"})"}),
              HasSubstr("module \"sentence_transformers.models.LSTM\" is not supported"));
  const auto dense = [&](const std::string& extra) {
    dir_.Write("2_Dense/config.json", R"({"in_features": 40, "out_features": 8, )" + extra + "}");
    return Error({kPooled, kDense});
  };
  EXPECT_THAT(dense(R"("activation_function": "torch.nn.modules.activation.GELU")"),
              HasSubstr("activation_function: expected Tanh or Identity"));
  EXPECT_THAT(dense(R"("module_input_name": "token_embeddings")"),
              HasSubstr("module_input_name: expected sentence_embedding"));
  EXPECT_THAT(Error({R"({"type": "a.Dense", "path": "../x"})"}), HasSubstr("leaves the model"));
}

TEST_F(ConfigModules, DenseLayersMultiplyWhatWasPooled) {
  ModelConfig config;
  config.dense = {{.folder = "2_Dense", .in_size = 2, .out_size = 3, .bias = true, .tanh = true},
                  {.folder = "3_Dense", .in_size = 3, .out_size = 1, .bias = false}};
  dir_.Write(
      "2_Dense/model.safetensors",
      SafetensorsFile(
          {{"linear.weight", "F32", {3, 2}, BytesOf(std::vector<float>{1, 0, 0, 1, 0.5f, -0.5f})},
           {"linear.bias", "F32", {3}, BytesOf(std::vector<float>{0, 1, 0})}}));
  dir_.Write(
      "3_Dense/model.safetensors",
      SafetensorsFile({{"linear.weight", "F32", {1, 3}, BytesOf(std::vector<float>{1, 10, 100})}}));
  const auto modules = LoadDenseModules(dir_.path(), config);
  ASSERT_TRUE(modules.ok()) << modules.status();
  const std::vector<float> got = ApplyDenseModules(*modules, {0.5f, -0.25f});
  ASSERT_EQ(got.size(), 1u);
  const double expected = std::tanh(0.5) + 10 * std::tanh(0.75) + 100 * std::tanh(0.375);
  EXPECT_THAT(got[0], FloatEq(static_cast<float>(expected)));
  config.dense[1].out_size = 2;
  EXPECT_THAT(LoadDenseModules(dir_.path(), config).status().message(),
              HasSubstr("3_Dense/model.safetensors"));
}

}  // namespace
}  // namespace penstock
