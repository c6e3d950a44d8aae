#include "model/quantization_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/safetensors_writer.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<QuantizationConfig> ParseSection(const std::string& section) {
  return ParseQuantizationConfig("{\"quantization_config\": " + section + "}", "config.json");
}

std::string SectionError(const std::string& section) {
  return ParseSection(section).status().ToString();
}

std::string CompressedTensors(const std::string& format, const std::string& weights,
                              const std::string& extra = "") {
  return R"({"quant_method": "compressed-tensors", "format": ")" + format + "\", " + extra +
         R"("config_groups": {"group_0": {"targets": ["Linear"], "weights": )" + weights + "}}}";
}

/// The only scheme of a section that must be accepted.
QuantScheme SchemeIn(const std::string& section) {
  const auto config = ParseSection(section);
  EXPECT_TRUE(config.ok()) << config.status();
  if (!config.ok() || config->groups.size() != 1) return {};
  return config->groups[0].scheme;
}

TEST(QuantizationConfig, IsEmptyWhereTheFileHasNone) {
  const auto config = ParseQuantizationConfig("{}", "config.json");
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->method, "");
  EXPECT_EQ(config->SchemeOf("a.b"), nullptr);
}

TEST(QuantizationConfig, ReadsGptqAndItsTwoConventionsOfZeroPoints) {
  QuantScheme s = SchemeIn(R"({"quant_method": "gptq", "bits": 4, "group_size": 128})");
  EXPECT_EQ(s.storage, CodeStorage::kGptq);
  EXPECT_EQ(s.group, 128);
  EXPECT_TRUE(s.zero_minus_one);
  s = SchemeIn(
      R"({"quant_method": "gptq", "bits": 8, "group_size": -1, "checkpoint_format": "gptq_v2"})");
  EXPECT_EQ(s.bits, 8);
  EXPECT_EQ(s.group, 0);
  EXPECT_FALSE(s.zero_minus_one);
}

TEST(QuantizationConfig, ReadsAwqFp8AndMxfp4) {
  EXPECT_EQ(SchemeIn(R"({"quant_method": "awq", "bits": 4, "group_size": 64, "version": "GEMM"})")
                .storage,
            CodeStorage::kAwq);
  QuantScheme s = SchemeIn(R"({"quant_method": "fp8", "weight_block_size": [128, 64]})");
  EXPECT_EQ(s.storage, CodeStorage::kFloat8);
  EXPECT_EQ(s.block_rows, 128);
  EXPECT_EQ(s.group, 64);
  EXPECT_TRUE(SchemeIn(R"({"quant_method": "fp8"})").per_tensor);
  EXPECT_EQ(SchemeIn(R"({"quant_method": "mxfp4"})").storage, CodeStorage::kMxfp4);
}

TEST(QuantizationConfig, ReadsTheFormatsOfCompressedTensors) {
  const std::string int8 =
      R"({"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": false})";
  QuantScheme s = SchemeIn(CompressedTensors("int-quantized", int8));
  EXPECT_EQ(s.storage, CodeStorage::kInt8);
  EXPECT_FALSE(s.symmetric);
  const std::string int4 =
      R"({"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "actorder": "group"})";
  EXPECT_EQ(SchemeIn(CompressedTensors("pack-quantized", int4)).group, 32);
  const std::string block =
      R"({"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]})";
  EXPECT_EQ(SchemeIn(CompressedTensors("float-quantized", block)).block_rows, 128);
  const std::string tensor = R"({"num_bits": 8, "type": "float", "strategy": "tensor"})";
  EXPECT_TRUE(SchemeIn(CompressedTensors("naive-quantized", tensor)).per_tensor);
}

TEST(QuantizationConfig, FindsTheSchemeByNamePatternAndLayer) {
  const auto config =
      ParseSection(R"({"quant_method": "compressed-tensors", "format": "pack-quantized",
    "ignore": ["lm_head", "re:.*layers\\.(?!1\\.)\\d+\\.mlp\\.up.*", "*.self_attn.k_proj"],
    "config_groups": {
      "a": {"targets": ["Linear"], "weights": {"num_bits": 4, "strategy": "channel"}},
      "b": {"targets": ["re:.*down_proj$"], "weights": {"num_bits": 8, "strategy": "channel"}}}})");
  ASSERT_TRUE(config.ok()) << config.status();
  const auto bits = [&](const std::string& name) {
    const QuantScheme* scheme = config->SchemeOf(name);
    return scheme == nullptr ? 0 : scheme->bits;
  };
  EXPECT_EQ(bits("lm_head"), 0);
  EXPECT_EQ(bits("model.lm_heads"), 4);
  EXPECT_EQ(bits("model.layers.0.mlp.up_proj"), 0);
  EXPECT_EQ(bits("model.layers.1.mlp.up_proj"), 4);
  EXPECT_EQ(bits("model.layers.1.mlp.down_proj"), 8);
  EXPECT_EQ(bits("model.layers.1.self_attn.k_proj"), 0);
  EXPECT_EQ(bits("model.layers.1.self_attn.q_proj"), 4);
}

TEST(QuantizationConfig, BoundsThePatternsOfAFile) {
  const auto ignore = [](const std::string& pattern) {
    return ParseSection(CompressedTensors("int-quantized", R"({"num_bits": 8})",
                                          "\"ignore\": [\"" + pattern + "\"], "));
  };
  EXPECT_THAT(ignore("re:(").status().ToString(), HasSubstr("ignore"));
  EXPECT_THAT(ignore(std::string(2000, 'a')).status().ToString(), HasSubstr("2000 bytes"));
  const auto slow = ignore("re:(a+)+(a+)+[bd]");
  ASSERT_TRUE(slow.ok()) << slow.status();
  EXPECT_NE(slow->SchemeOf(std::string(60, 'a') + "c"), nullptr);  // given up: not ignored
}

TEST(QuantizationConfig, NamesWhatIsNotSupported) {
  EXPECT_EQ(ParseSection(R"({"quant_method": "bitsandbytes"})").status().code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_THAT(SectionError(R"({"quant_method": "bitsandbytes"})"),
              HasSubstr("config.json: quantization_config.quant_method: \"bitsandbytes\""));
  EXPECT_THAT(SectionError(R"({"quant_method": "gptq", "bits": 3, "group_size": 128})"),
              HasSubstr("quantization_config.bits: is 3"));
  EXPECT_THAT(SectionError(R"({"quant_method": "gptq", "bits": 4, "group_size": 48})"),
              HasSubstr("group_size: is 48"));
  EXPECT_THAT(SectionError(R"({"quant_method": "gptq", "bits": 4})"), HasSubstr("group_size"));
  EXPECT_THAT(SectionError(R"({"quant_method": "gptq", "bits": 4, "group_size": 32,
                         "dynamic": {"-:x": {}}})"),
              HasSubstr("dynamic"));
  EXPECT_THAT(SectionError(R"({"quant_method": "awq", "bits": 4, "group_size": 32,
                         "version": "gemv"})"),
              HasSubstr("version: \"gemv\""));
  EXPECT_THAT(SectionError(R"({"quant_method": "awq", "bits": 4, "group_size": 32,
                         "zero_point": false})"),
              HasSubstr("zero_point"));
  EXPECT_THAT(SectionError(R"({"quant_method": "fp8", "fmt": "e5m2"})"), HasSubstr("e5m2"));
  EXPECT_THAT(SectionError(R"({"quant_method": "fp8", "weight_block_size": [128]})"),
              HasSubstr("weight_block_size"));
  EXPECT_THAT(SectionError(R"({"quant_method": "fp8", "modules_to_not_convert": "lm_head"})"),
              HasSubstr("modules_to_not_convert: expected a list of at most 16384 strings"));
  const std::string weights = R"({"num_bits": 8, "strategy": "channel"})";
  EXPECT_THAT(SectionError(CompressedTensors("marlin-24", weights)), HasSubstr("\"marlin-24\""));
  EXPECT_THAT(SectionError(CompressedTensors("float-quantized", weights)),
              HasSubstr("type: is int"));
  EXPECT_THAT(SectionError(CompressedTensors("int-quantized", weights,
                                             R"("sparsity_config": {"format": "sparse-24"}, )")),
              HasSubstr("sparsity_config"));
  EXPECT_THAT(SectionError(
                  CompressedTensors("int-quantized", weights, R"("transform_config": {"a": 1}, )")),
              HasSubstr("transform_config"));
  EXPECT_THAT(
      SectionError(CompressedTensors("int-quantized", R"({"num_bits": 8, "dynamic": true})")),
      HasSubstr("group_0.weights.dynamic"));
  EXPECT_THAT(SectionError("[]"), HasSubstr("expected an object"));
}

TEST(QuantizationConfig, IsFoundInsideATextConfig) {
  const auto config = ParseQuantizationConfig(
      R"({"text_config": {"quantization_config": {"quant_method": "mxfp4"}}})", "config.json");
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->method, "mxfp4");
}

TEST(QuantizationConfig, OlderGptqCheckpointsHaveAFileOfTheirOwn) {
  const TempDir dir;
  dir.Write("config.json", "{}");
  dir.Write("quantize_config.json",
            R"({"bits": 4, "group_size": 128, "damp_percent": 0.01, "desc_act": true, "sym": false,
                "true_sequential": true, "model_name_or_path": null, "model_file_base_name": "m"})");
  const auto old = LoadQuantizationConfig(dir.path());
  ASSERT_TRUE(old.ok()) << old.status();
  EXPECT_EQ(old->method, "gptq");
  ASSERT_EQ(old->groups.size(), 1u);
  EXPECT_EQ(old->groups[0].scheme.storage, CodeStorage::kGptq);
  EXPECT_EQ(old->groups[0].scheme.group, 128);
  EXPECT_FALSE(old->groups[0].scheme.symmetric);
  // What config.json says comes first.
  dir.Write("config.json",
            R"({"quantization_config": {"quant_method": "gptq", "bits": 8, "group_size": 64}})");
  const auto own = LoadQuantizationConfig(dir.path());
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_EQ(own->groups[0].scheme.bits, 8);
}

TEST(QuantizationConfig, NamesWhatAnOlderGptqCheckpointsFileHasWrong) {
  const TempDir dir;
  dir.Write("config.json", "{}");
  const auto error = [&](const char* text) {
    dir.Write("quantize_config.json", text);
    return std::string(LoadQuantizationConfig(dir.path()).status().message());
  };
  EXPECT_THAT(error(R"({"bits": 3, "group_size": 128})"),
              HasSubstr("quantize_config.json: quantize_config.bits: is 3, expected 4 or 8"));
  EXPECT_THAT(error(R"({"bits": 4})"), HasSubstr("group_size: is missing"));
  EXPECT_THAT(error("[]"), HasSubstr("quantize_config.json: expected an object"));
  EXPECT_THAT(error("{"), HasSubstr("quantize_config.json"));
}

}  // namespace
}  // namespace penstock
