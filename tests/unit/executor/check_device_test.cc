#include "executor/check_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock {
namespace {

using ::testing::HasSubstr;

/// A device that computes little.
DeviceAbilities Few() {
  return {.float32 = false,
          .encode = false,
          .delta_rule = false,
          .head_dim = 512,
          .head_dim_unit = 4,
          .experts = 64,
          .top_experts = 8,
          .expert_groups = 4};
}

ModelConfig WithHeads(int32_t dim) {
  ModelConfig config;
  LayerConfig layer;
  layer.heads = {8, 2, dim};
  config.layers = {layer};
  return config;
}

void ExpectRefused(const ModelConfig& config, const std::string& why) {
  const absl::Status status = CheckDevice(config, Few(), "gadget");
  EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("device gadget cannot compute the model"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(why));
  EXPECT_TRUE(CheckDevice(config, DeviceAbilities(), "cpu").ok());
}

TEST(CheckDevice, NamesTheOperationOrTheSizeThatIsMissing) {
  EXPECT_TRUE(CheckDevice(WithHeads(128), Few(), "gadget").ok());
  ExpectRefused(WithHeads(576), "heads of 576");
  ExpectRefused(WithHeads(10), "heads of 10");
  ModelConfig config = WithHeads(128);
  config.encoder.present = true;
  ExpectRefused(config, "Encode");
  config = WithHeads(128);
  config.layers[0].recurrent = true;
  config.delta.num_value_heads = 4;
  ExpectRefused(config, "DeltaRule");
  config = WithHeads(128);
  config.experts.num_experts = 65;
  ExpectRefused(config, "65 experts");
  config.experts.num_experts = 64;
  config.experts.top_k = 9;
  ExpectRefused(config, "9 experts at a time");
  config.experts.top_k = 8;
  config.experts.rule.num_groups = 8;
  ExpectRefused(config, "8 groups");
}

TEST(CheckDTypes, TheCacheIsOfTheActivationsOrOfBytes) {
  const auto check = [](DType activations, DType cache) {
    return CheckDTypes(activations, cache, Few(), "gadget");
  };
  EXPECT_TRUE(check(DType::kBFloat16, DType::kBFloat16).ok());
  EXPECT_TRUE(check(DType::kBFloat16, DType::kInt8).ok());
  EXPECT_THAT(std::string(check(DType::kFloat32, DType::kFloat32).message()), HasSubstr("dtype"));
  EXPECT_THAT(std::string(check(DType::kBFloat16, DType::kFloat32).message()),
              HasSubstr("kv_dtype"));
  EXPECT_TRUE(CheckDTypes(DType::kFloat32, DType::kFloat32, DeviceAbilities(), "cpu").ok());
}

TEST(CheckDTypes, SixteenBitsAreOfTheKindThatTheDeviceWasOpenedFor) {
  DeviceAbilities abilities = Few();
  abilities.numbers = DType::kFloat16;
  const auto check = [&](DType activations, DType cache) {
    return std::string(CheckDTypes(activations, cache, abilities, "gadget").message());
  };
  EXPECT_EQ(check(DType::kFloat16, DType::kFloat16), "");
  EXPECT_EQ(check(DType::kFloat16, DType::kInt8), "");
  EXPECT_THAT(check(DType::kBFloat16, DType::kBFloat16), HasSubstr("in float16, not in bfloat16"));
  EXPECT_THAT(check(DType::kFloat16, DType::kBFloat16), HasSubstr("kv_dtype"));
  const auto on_cpu = [](DType activations, DType cache) {
    return std::string(CheckDTypes(activations, cache, DeviceAbilities(), "cpu").message());
  };
  EXPECT_THAT(on_cpu(DType::kFloat16, DType::kFloat16), HasSubstr("not in float16; set dtype"));
  EXPECT_THAT(on_cpu(DType::kBFloat16, DType::kFloat16), HasSubstr("set kv_dtype"));
}

}  // namespace
}  // namespace penstock
