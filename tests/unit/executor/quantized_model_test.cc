#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "backend/make_backend.h"
#include "base/half.h"
#include "executor/runner_driver.h"
#include "fakes/codes_in_memory.h"
#include "fakes/tiny_model.h"

namespace penstock {
namespace {

/// The formula's tensors, every linear layer and table in 4-bit codes of groups of 16; or the
/// numbers that those codes stand for.
class CodedFormula final : public TensorSource {
 public:
  explicit CodedFormula(bool as_codes) : as_codes_(as_codes) {}

  bool Has(const std::string& name) const override { return formula_->Has(name); }
  absl::StatusOr<HostTensor> Get(const std::string& name,
                                 absl::Span<const int64_t> shape) override {
    return formula_->Get(name, shape);
  }
  absl::StatusOr<HostLinear> FindLinear(const std::string& name, absl::Span<const int64_t> shape,
                                        int64_t) override {
    ASSIGN_OR_RETURN(const HostTensor tensor, formula_->Get(name + ".weight", shape));
    const auto* values = static_cast<const uint16_t*>(tensor.data);
    const int64_t rows = shape[0];
    const int64_t k = shape[1];
    QuantizedForm form;
    form.group = 16;
    form.center = 8;
    const float scale = 0.3f / std::sqrt(static_cast<float>(k));
    std::vector<uint8_t> codes;
    for (int64_t i = 0; i < rows * k; ++i) {
      const float level = std::round(Bf16ToFloat(values[i]) / scale) + 8;
      codes.push_back(static_cast<uint8_t>(std::clamp(level, 0.0f, 15.0f)));
    }
    auto matrix = std::make_shared<CodesInMemory>(rows, k, form, std::move(codes),
                                                  std::vector<float>(rows * ((k + 15) / 16), scale),
                                                  std::vector<float>());
    if (as_codes_) return HostLinear{{}, matrix};
    auto numbers = std::make_shared<std::vector<float>>(rows * k);
    Dequantize(*matrix, 0, rows, numbers->data());
    return HostLinear{{DType::kFloat32, {rows, k}, numbers->data(), numbers}, nullptr};
  }

 private:
  bool as_codes_;
  std::unique_ptr<TensorSource> formula_ = MakeFormulaSource();
};

std::unique_ptr<LoadedModel> LoadCoded(bool as_codes, bool tied, WorkerPool* pool) {
  auto model = std::make_unique<LoadedModel>();
  const std::string tie = tied ? R"("tie_word_embeddings": true,)" : "";
  auto config = ParseModelConfig(TinyConfig("LlamaForCausalLM", tie), "config.json");
  CHECK(config.ok());
  model->config = *std::move(config);
  auto device = OpenBackend({"cpu", pool});
  CHECK(device.ok());
  model->device = std::move(device->device);
  CodedFormula source(as_codes);
  auto weights = LoadWeights(model->config, source, *model->device, {});
  CHECK(weights.ok());
  model->weights = *std::move(weights);
  return model;
}

DrivenSequence RunTiny(LoadedModel* model) {
  auto runner = ModelRunner::Make(model, TinyRunnerOptions());
  CHECK(runner.ok());
  RunnerDriver driver(runner->get());
  DrivenSequence s = driver.Begin(TinyPrompt(50, 3), true);
  CHECK(driver.Run(s, 13, 20).ok());
  driver.End(s);
  return s;
}

void ExpectSameBits(bool tied) {
  WorkerPool pool(2);
  const auto codes = LoadCoded(true, tied, &pool);
  const auto numbers = LoadCoded(false, tied, &pool);
  EXPECT_EQ(codes->weights.embedding.rows, 0);
  EXPECT_EQ(codes->weights.packed_embedding.n, tied ? 0 : 317);
  EXPECT_EQ(numbers->weights.embedding.rows, 317);
  const DrivenSequence a = RunTiny(codes.get());
  const DrivenSequence b = RunTiny(numbers.get());
  EXPECT_EQ(a.tokens, b.tokens);
  ASSERT_EQ(a.logits.size(), b.logits.size());
  EXPECT_EQ(std::memcmp(a.logits.data(), b.logits.data(), a.logits.size() * sizeof(float)), 0);
}

TEST(QuantizedModel, GivesTheBitsOfTheNumbersThatItsCodesStandFor) { ExpectSameBits(false); }

TEST(QuantizedModel, EmbedsFromTheHeadsCodesWhereTheTwoAreTied) { ExpectSameBits(true); }

}  // namespace
}  // namespace penstock
