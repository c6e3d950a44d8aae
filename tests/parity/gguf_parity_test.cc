// Models of quantised GGUF files: layers kept as codes against the same layers as float32.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <random>

#include "backend/make_backend.h"
#include "executor/load_model.h"
#include "executor/runner_driver.h"
#include "fakes/gguf_writer.h"
#include "fakes/safetensors_writer.h"
#include "model/gguf_source.h"

namespace penstock {
namespace {

/// Offers every layer as numbers.
class WidenedSource final : public TensorSource {
 public:
  explicit WidenedSource(std::unique_ptr<GgufSource> source) : source_(std::move(source)) {}
  bool Has(const std::string& name) const override { return source_->Has(name); }
  absl::StatusOr<HostTensor> Get(const std::string& name,
                                 absl::Span<const int64_t> shape) override {
    return source_->Get(name, shape);
  }

 private:
  std::unique_ptr<GgufSource> source_;
};

/// Tokens drawn and logits of the prompt.
DrivenSequence AnswerOf(LoadedModel* model, const std::vector<TokenId>& prompt) {
  RunnerOptions options;
  options.kv_bytes = 16 << 20;
  auto runner = ModelRunner::Make(model, options);
  EXPECT_TRUE(runner.ok()) << runner.status();
  if (!runner.ok()) return {};
  RunnerDriver driver(runner->get());
  DrivenSequence s = driver.Begin(prompt, true);
  EXPECT_TRUE(driver.Run(s, 64, 24).ok());
  return s;
}

/// Logits and tokens are the same, and layers were kept as codes.
void ExpectCodesGiveTheLogitsOfTheirValues(const std::string& path) {
  WorkerPool pool(2);
  LoadOptions load;
  load.model_dir = path;
  load.pool = &pool;
  const auto coded = LoadModel(load);
  ASSERT_TRUE(coded.ok()) << coded.status();
  EXPECT_GT((*coded)->weights.layers[0].qkv.segments[0].group, 0);
  auto file = Gguf::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  auto source = GgufSource::Make(std::make_shared<const Gguf>(*std::move(file)));
  ASSERT_TRUE(source.ok()) << source.status();
  WidenedSource widened(*std::move(source));
  LoadedModel plain;
  plain.config = (*coded)->config;
  auto device = OpenBackend({"cpu", &pool});
  ASSERT_TRUE(device.ok()) << device.status();
  plain.device = std::move(device->device);
  auto weights = LoadWeights(plain.config, widened, *plain.device, {});
  ASSERT_TRUE(weights.ok()) << weights.status();
  plain.weights = *std::move(weights);
  EXPECT_EQ(plain.weights.layers[0].qkv.segments[0].group, 0);
  const std::vector<TokenId> prompt = {1, 3, 7, 4, 8, 20, 31, 2};
  const DrivenSequence got = AnswerOf(coded->get(), prompt);
  const DrivenSequence expected = AnswerOf(&plain, prompt);
  EXPECT_EQ(got.tokens, expected.tokens);
  ASSERT_EQ(got.logits.size(), prompt.size() * plain.config.vocab_size);
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < got.logits.size(); ++i) {
    error += std::pow(got.logits[i] - expected.logits[i], 2);
    norm += std::pow(expected.logits[i], 2);
  }
  EXPECT_LE(std::sqrt(error / norm), 1e-5);
}

TEST(GgufParity, StoriesInEightBits) {
  const std::string path =
      std::string(PENSTOCK_SHARED_DATA) + "/models/stories260K/gguf/stories260K-Q8_0.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  ExpectCodesGiveTheLogitsOfTheirValues(path);
}

struct RandomType {
  GgmlType type;
  std::string name;
  std::vector<int> halves;  // where a block has half floats
};

class GgufTypeParity : public ::testing::TestWithParam<RandomType> {
 protected:
  /// Random blocks with small scales.
  std::string Blocks(int64_t elements) {
    const GgmlTypeInfo& info = *FindGgmlType(static_cast<uint32_t>(GetParam().type));
    std::string out(elements / info.block_size * info.block_bytes, '\0');
    for (char& c : out) c = static_cast<char>(random_());
    for (size_t block = 0; block < out.size(); block += info.block_bytes) {
      for (const int at : GetParam().halves) {
        out[block + at + 1] = static_cast<char>((random_() & 0x80) | 0x08);  // about 2^-13
      }
      if (GetParam().type == GgmlType::kMXFP4) out[block] = 118;
    }
    return out;
  }
  std::string Floats(int64_t count, float center, float width) {
    std::normal_distribution<float> normal(center, width);
    std::vector<float> values(count);
    for (float& v : values) v = normal(random_);
    return BytesOf(values);
  }

  std::mt19937 random_{7};
};

TEST_P(GgufTypeParity, CodesGiveTheLogitsOfTheirValues) {
  GgufWriter w;
  w.AddString("general.architecture", "llama");
  for (const auto& [key, value] :
       std::vector<std::pair<const char*, uint32_t>>{{"context_length", 128},
                                                     {"embedding_length", 256},
                                                     {"block_count", 1},
                                                     {"feed_forward_length", 256},
                                                     {"attention.head_count", 8},
                                                     {"attention.head_count_kv", 4}}) {
    w.AddInt(std::string("llama.") + key, value);
  }
  w.AddFloat("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  w.AddTensor("token_embd.weight", GgmlType::kF32, {64, 256}, Floats(64 * 256, 0, 1));
  w.AddTensor("output.weight", GgmlType::kF32, {64, 256}, Floats(64 * 256, 0, 1));
  for (const char* norm : {"output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"}) {
    w.AddTensor(std::string(norm) + ".weight", GgmlType::kF32, {256}, Floats(256, 1, 0.1f));
  }
  for (const auto& [name, rows] :
       std::vector<std::pair<const char*, uint64_t>>{{"attn_q", 256},
                                                     {"attn_k", 128},
                                                     {"attn_v", 128},
                                                     {"attn_output", 256},
                                                     {"ffn_gate", 256},
                                                     {"ffn_up", 256},
                                                     {"ffn_down", 256}}) {
    w.AddTensor(std::string("blk.0.") + name + ".weight", GetParam().type, {rows, 256},
                Blocks(static_cast<int64_t>(rows) * 256));
  }
  const TempDir dir;
  ExpectCodesGiveTheLogitsOfTheirValues(dir.Write("m.gguf", w.Bytes()));
}

INSTANTIATE_TEST_SUITE_P(
    Types, GgufTypeParity,
    ::testing::Values(
        RandomType{GgmlType::kQ4_0, "Q4_0", {0}}, RandomType{GgmlType::kQ4_1, "Q4_1", {0, 2}},
        RandomType{GgmlType::kQ5_0, "Q5_0", {0}}, RandomType{GgmlType::kQ5_1, "Q5_1", {0, 2}},
        RandomType{GgmlType::kQ8_0, "Q8_0", {0}}, RandomType{GgmlType::kQ2_K, "Q2_K", {80, 82}},
        RandomType{GgmlType::kQ3_K, "Q3_K", {108}}, RandomType{GgmlType::kQ4_K, "Q4_K", {0, 2}},
        RandomType{GgmlType::kQ5_K, "Q5_K", {0, 2}}, RandomType{GgmlType::kQ6_K, "Q6_K", {208}},
        RandomType{GgmlType::kIQ4_NL, "IQ4_NL", {0}}, RandomType{GgmlType::kMXFP4, "MXFP4", {}}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace penstock
