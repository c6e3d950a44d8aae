#include "model/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "backend/make_backend.h"
#include "base/half.h"
#include "fakes/tiny_model.h"
#include "model/tensor_source.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

/// All tensors of TinyConfig, float32 zeros, except where a test says otherwise.
std::vector<TensorToWrite> TinyTensors() {
  std::vector<TensorToWrite> tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    int64_t size = 1;
    for (const int64_t dim : shape) size *= dim;
    tensors.push_back({name, "F32", shape, std::string(size * 4, '\0')});
  };
  add("model.embed_tokens.weight", {317, 40});
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    add(layer + "input_layernorm.weight", {40});
    add(layer + "post_attention_layernorm.weight", {40});
    add(layer + "self_attn.q_proj.weight", {120, 40});
    add(layer + "self_attn.k_proj.weight", {40, 40});
    add(layer + "self_attn.v_proj.weight", {40, 40});
    add(layer + "self_attn.o_proj.weight", {40, 120});
    add(layer + "mlp.gate_proj.weight", {72, 40});
    add(layer + "mlp.up_proj.weight", {72, 40});
    add(layer + "mlp.down_proj.weight", {40, 72});
  }
  add("model.norm.weight", {40});
  add("lm_head.weight", {317, 40});
  return tensors;
}

absl::Status Load(const std::vector<TensorToWrite>& tensors) {
  const TempDir dir;
  dir.Write("config.json", TinyConfig());
  dir.Write("model.safetensors", SafetensorsFile(tensors));
  WorkerPool pool(1);
  LoadOptions load;
  load.model_dir = dir.path();
  load.pool = &pool;
  return LoadModel(load).status();
}

TEST(Weights, LoadingSaysHowManyBytesAreDone) {
  const TempDir dir;
  dir.Write("config.json", TinyConfig());
  const std::vector<TensorToWrite> tensors = TinyTensors();
  dir.Write("model.safetensors", SafetensorsFile(tensors));
  int64_t bytes = 0;
  for (const TensorToWrite& tensor : tensors) bytes += static_cast<int64_t>(tensor.bytes.size());
  WorkerPool pool(1);
  LoadOptions load;
  load.model_dir = dir.path();
  load.pool = &pool;
  std::vector<int64_t> told;
  load.progress = [&](std::string_view, int64_t done, int64_t total) {
    told.push_back(done);
    EXPECT_EQ(total, bytes);
  };
  ASSERT_TRUE(LoadModel(load).ok());
  EXPECT_EQ(told, (std::vector<int64_t>{0, bytes / 3, bytes / 3 * 2 + bytes % 3 * 2 / 3, bytes}));
  // A formula has no bytes.
  told.clear();
  bytes = 0;
  load.weights = "formula";
  ASSERT_TRUE(LoadModel(load).ok());
  EXPECT_EQ(told, (std::vector<int64_t>{0, 0, 0, 0}));
}

TEST(Weights, OfAFileThatIsCutMeanwhileAreRefusedAndNotKept) {
  const TempDir dir;
  dir.Write("config.json", TinyConfig());
  const std::string path = dir.Write("model.safetensors", SafetensorsFile(TinyTensors()));
  WorkerPool pool(1);
  LoadOptions load;
  load.model_dir = dir.path();
  load.pool = &pool;
  load.packed_cache = dir.path() + "/packed";
  load.progress = [&](std::string_view, int64_t done, int64_t) {
    if (done == 0) std::filesystem::resize_file(path, std::filesystem::file_size(path) / 8);
  };
  const absl::Status status = LoadModel(load).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(path + " has another size"));
  for (const auto& kept : std::filesystem::directory_iterator(load.packed_cache))
    ADD_FAILURE() << kept.path();
}

TensorToWrite& Named(std::vector<TensorToWrite>& tensors, const std::string& name) {
  for (TensorToWrite& t : tensors) {
    if (t.name == name) return t;
  }
  CHECK(false);
}

TEST(Weights, LoadWhenAllIsThere) { EXPECT_TRUE(Load(TinyTensors()).ok()) << Load(TinyTensors()); }

TEST(Weights, MayHaveDifferentTypesInOneLayer) {
  auto tensors = TinyTensors();
  TensorToWrite& k = Named(tensors, "model.layers.0.self_attn.k_proj.weight");
  k.dtype = "F16";
  k.bytes.resize(k.bytes.size() / 2);
  EXPECT_TRUE(Load(tensors).ok());
}

TEST(Weights, NameTheMissingTensorAndItsShape) {
  auto tensors = TinyTensors();
  Named(tensors, "model.layers.1.mlp.up_proj.weight").name = "something.else";
  const std::string error = Load(tensors).ToString();
  EXPECT_THAT(error, HasSubstr("model.layers.1.mlp.up_proj.weight"));
  EXPECT_THAT(error, HasSubstr("[72, 40]"));
  EXPECT_THAT(error, HasSubstr("model.safetensors"));
}

TEST(Weights, NameTheTensorWhoseShapeIsNotTheConfigs) {
  auto tensors = TinyTensors();
  Named(tensors, "model.layers.0.self_attn.o_proj.weight").shape = {120, 40};
  const std::string error = Load(tensors).ToString();
  EXPECT_THAT(error, HasSubstr("o_proj.weight\" has shape [120, 40]"));
  EXPECT_THAT(error, HasSubstr("[40, 120]"));
}

TEST(Weights, NameTheTensorThatIsNoFloat) {
  auto tensors = TinyTensors();
  Named(tensors, "model.norm.weight").dtype = "I32";
  EXPECT_THAT(Load(tensors).ToString(), HasSubstr("model.norm.weight\" is int32"));
}

TEST(FormulaSource, GivesTheDocumentedValues) {
  const auto source = MakeFormulaSource();
  const auto tensor = source->Get("a", {2, 3});
  ASSERT_TRUE(tensor.ok());
  uint64_t h = (0xcbf29ce484222325u ^ 'a') * 0x100000001b3u;
  const auto* values = static_cast<const uint16_t*>(tensor->data);
  for (int i = 0; i < 6; ++i, h += 0x9E3779B97F4A7C15u) {
    uint64_t x = h;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    const double u = static_cast<double>(x >> 40) / (1 << 23) - 1;
    EXPECT_EQ(values[i], FloatToBf16(static_cast<float>(u)));  // sqrt(3 / 3) is 1
  }
}

TEST(FormulaSource, KeepsNormsNearOne) {
  const auto tensor = MakeFormulaSource()->Get("model.norm.weight", {64});
  for (int i = 0; i < 64; ++i)
    EXPECT_NEAR(Bf16ToFloat(static_cast<const uint16_t*>(tensor->data)[i]), 1.0f, 0.13f);
}

}  // namespace
}  // namespace penstock
