#include "model/quantized_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/half.h"
#include "fakes/safetensors_writer.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using Tensors = std::vector<TensorToWrite>;

constexpr int64_t kLayerRows = 16;
constexpr int64_t kLayerCols = 80;  // of groups of 32 the last is short
constexpr int64_t kLayerGroups = 3;

/// A random matrix of codes with scales that float16 holds and zero points.
struct LayerCodes {
  explicit LayerCodes(int32_t levels) {
    std::mt19937 random(1);
    for (auto& q : codes) q = static_cast<int32_t>(random() % levels);
    for (auto& z : zeros) z = static_cast<int32_t>(random() % levels);
    for (auto& s : scales) s = (1 + random() % 1000) * 0x1p-12f;
  }
  int32_t& code(int64_t r, int64_t c) { return codes[r * kLayerCols + c]; }
  int32_t& zero(int64_t r, int64_t g) { return zeros[r * kLayerGroups + g]; }
  float& scale(int64_t r, int64_t g) { return scales[r * kLayerGroups + g]; }

  std::vector<int32_t> codes = std::vector<int32_t>(kLayerRows * kLayerCols);
  std::vector<int32_t> zeros = std::vector<int32_t>(kLayerRows * kLayerGroups);
  std::vector<float> scales = std::vector<float>(kLayerRows * kLayerGroups);
};

/// rows x cols numbers of `bits` packed along `cols`; `at(r, c)` gives them.
template <class Fn>
std::string Packed(int64_t rows, int64_t cols, int bits, const Fn& at) {
  const int64_t per_word = 32 / bits;
  const int64_t words = (cols + per_word - 1) / per_word;
  std::vector<uint32_t> out(rows * words);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      out[r * words + c / per_word] |= (static_cast<uint32_t>(at(r, c)) & ((1u << bits) - 1))
                                       << (c % per_word * bits);
    }
  }
  return BytesOf(out);
}

/// rows x cols words, packed along rows: [ceil(rows / per_word), cols].
template <class Fn>
std::string PackedDown(int64_t rows, int64_t cols, int bits, const Fn& at) {
  const int64_t per_word = 32 / bits;
  std::vector<uint32_t> out((rows + per_word - 1) / per_word * cols);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      out[r / per_word * cols + c] |= (static_cast<uint32_t>(at(r, c)) & ((1u << bits) - 1))
                                      << (r % per_word * bits);
    }
  }
  return BytesOf(out);
}

std::string Halves(const std::vector<float>& values) {
  std::vector<uint16_t> out;
  for (const float v : values) out.push_back(FloatToFp16(v));
  return BytesOf(out);
}

/// [rows, groups] -> [groups, rows]
std::vector<float> Turned(LayerCodes& m) {
  std::vector<float> out;
  for (int64_t g = 0; g < kLayerGroups; ++g) {
    for (int64_t r = 0; r < kLayerRows; ++r) out.push_back(m.scale(r, g));
  }
  return out;
}

/// `group_of` and `code` are of the file's columns.
Tensors GptqTensors(LayerCodes& m, int bits, int add, const std::vector<int32_t>& group_of) {
  const int64_t per_word = 32 / bits;
  Tensors tensors = {{"l.qweight",
                      "I32",
                      {kLayerCols / per_word, kLayerRows},
                      PackedDown(kLayerCols, kLayerRows, bits,
                                 [&](int64_t c, int64_t r) { return m.code(r, c); })},
                     {"l.qzeros",
                      "I32",
                      {kLayerGroups, kLayerRows / per_word},
                      Packed(kLayerGroups, kLayerRows, bits,
                             [&](int64_t g, int64_t r) { return m.zero(r, g) - add; })},
                     {"l.scales", "F16", {kLayerGroups, kLayerRows}, Halves(Turned(m))}};
  if (!group_of.empty()) tensors.push_back({"l.g_idx", "I32", {kLayerCols}, BytesOf(group_of)});
  return tensors;
}

/// Reading `tensors` as layer "l".
absl::StatusOr<std::vector<float>> LoadLayer(const Tensors& tensors, const std::string& section,
                                             std::vector<int64_t> shape = {kLayerRows, kLayerCols},
                                             int64_t expert = -1) {
  const TempDir dir;
  auto files = Safetensors::OpenFile(dir.Write("model.safetensors", SafetensorsFile(tensors)));
  if (!files.ok()) return files.status();
  const auto config =
      ParseQuantizationConfig("{\"quantization_config\": " + section + "}", "config.json");
  if (!config.ok()) return config.status();
  const auto matrix = FindQuantized(std::make_shared<const Safetensors>(*std::move(files)), *config,
                                    "l", shape, expert);
  if (!matrix.ok()) return matrix.status();
  if (*matrix == nullptr) return absl::NotFoundError("plain");
  std::vector<float> values(shape.end()[-2] * shape.back());
  Dequantize(**matrix, 0, 3, values.data());  // rows come in any pieces
  Dequantize(**matrix, 3, shape.end()[-2] - 3, values.data() + 3 * shape.back());
  return values;
}

std::string LayerError(const Tensors& tensors, const std::string& section) {
  return LoadLayer(tensors, section).status().ToString();
}

/// group_of: of each column; empty: in order.
void ExpectValues(const absl::StatusOr<std::vector<float>>& got, LayerCodes& m,
                  const std::vector<int32_t>& group_of = {}) {
  ASSERT_TRUE(got.ok()) << got.status();
  for (int64_t r = 0; r < kLayerRows; ++r) {
    for (int64_t c = 0; c < kLayerCols; ++c) {
      const int64_t g = group_of.empty() ? c / 32 : group_of[c];
      EXPECT_EQ((*got)[r * kLayerCols + c], m.scale(r, g) * (m.code(r, c) - m.zero(r, g)))
          << r << ", " << c;
    }
  }
}

/// Every third column first: groups of 32, 32 and 16 columns.
std::vector<int32_t> ActOrder() {
  std::vector<int32_t> group_of(kLayerCols);
  int32_t next = 0;
  for (int64_t first = 0; first < 3; ++first) {
    for (int64_t c = first; c < kLayerCols; c += 3) group_of[c] = next++ / 32;
  }
  return group_of;
}

const std::string kGptq = R"({"quant_method": "gptq", "bits": 4, "group_size": 32})";
const std::string kGptqV2 =
    R"({"quant_method": "gptq", "bits": 4, "group_size": 32, "checkpoint_format": "gptq_v2"})";
const std::string kGptq8 = R"({"quant_method": "gptq", "bits": 8, "group_size": 32})";
const std::string kAwq = R"({"quant_method": "awq", "bits": 4, "group_size": 32})";

std::string Ct(const std::string& format, const std::string& weights) {
  return R"({"quant_method": "compressed-tensors", "format": ")" + format +
         R"(", "config_groups": {"a": {"targets": ["Linear"], "weights": )" + weights + "}}}";
}

const std::string kCt4 =
    Ct("pack-quantized", R"({"num_bits": 4, "strategy": "group", "group_size": 32,
  "symmetric": false})");
const std::string kCt8 =
    Ct("int-quantized", R"({"num_bits": 8, "strategy": "group", "group_size": 32,
  "symmetric": false})");

TEST(QuantizedTensors, GptqOfFourAndEightBits) {
  LayerCodes m(16);
  ExpectValues(LoadLayer(GptqTensors(m, 4, 1, {}), kGptq), m);
  ExpectValues(LoadLayer(GptqTensors(m, 4, 0, {}), kGptqV2), m);
  LayerCodes wide(256);
  ExpectValues(LoadLayer(GptqTensors(wide, 8, 1, {}), kGptq8), wide);
}

TEST(QuantizedTensors, GptqWithColumnsInActOrder) {
  LayerCodes m(16);
  ExpectValues(LoadLayer(GptqTensors(m, 4, 1, ActOrder()), kGptq), m, ActOrder());
}

TEST(QuantizedTensors, OneZeroPointForAllIsTheCenter) {
  LayerCodes m(16);
  std::fill(m.zeros.begin(), m.zeros.end(), 8);
  ExpectValues(LoadLayer(GptqTensors(m, 4, 1, {}), kGptq), m);
}

Tensors AwqTensors(LayerCodes& m) {
  constexpr int kRowOfNibble[] = {0, 2, 4, 6, 1, 3, 5, 7};
  const auto row = [&](int64_t nibble) { return nibble / 8 * 8 + kRowOfNibble[nibble % 8]; };
  return {
      {"l.qweight",
       "I32",
       {kLayerCols, kLayerRows / 8},
       Packed(kLayerCols, kLayerRows, 4, [&](int64_t c, int64_t i) { return m.code(row(i), c); })},
      {"l.qzeros",
       "I32",
       {kLayerGroups, kLayerRows / 8},
       Packed(kLayerGroups, kLayerRows, 4,
              [&](int64_t g, int64_t i) { return m.zero(row(i), g); })},
      {"l.scales", "F16", {kLayerGroups, kLayerRows}, Halves(Turned(m))}};
}

TEST(QuantizedTensors, Awq) {
  LayerCodes m(16);
  ExpectValues(LoadLayer(AwqTensors(m), kAwq), m);
}

Tensors PackedTensors(LayerCodes& m) {
  return {
      {"l.weight_packed",
       "I32",
       {kLayerRows, kLayerCols / 8},
       Packed(kLayerRows, kLayerCols, 4, [&](int64_t r, int64_t c) { return m.code(r, c); })},
      {"l.weight_scale", "F16", {kLayerRows, kLayerGroups}, Halves(m.scales)},
      {"l.weight_zero_point",
       "I32",
       {kLayerRows / 8, kLayerGroups},
       PackedDown(kLayerRows, kLayerGroups, 4, [&](int64_t r, int64_t g) { return m.zero(r, g); })},
      {"l.weight_shape", "I64", {2}, BytesOf(std::vector<int64_t>{kLayerRows, kLayerCols})}};
}

TEST(QuantizedTensors, PackedCompressedTensors) {
  LayerCodes m(16);
  ExpectValues(LoadLayer(PackedTensors(m), kCt4), m);
  Tensors ordered = PackedTensors(m);
  ordered.push_back({"l.weight_g_idx", "I32", {kLayerCols}, BytesOf(ActOrder())});
  ExpectValues(LoadLayer(ordered, kCt4), m, ActOrder());
}

TEST(QuantizedTensors, PackedSymmetricCodesAreCenteredOnEight) {
  LayerCodes m(16);
  std::fill(m.zeros.begin(), m.zeros.end(), 8);
  Tensors tensors = PackedTensors(m);
  tensors.erase(tensors.begin() + 2);
  ExpectValues(LoadLayer(tensors, Ct("pack-quantized", R"({"num_bits": 4, "strategy": "group",
    "group_size": 32})")),
               m);
}

Tensors Int8Tensors(LayerCodes& m) {
  std::vector<int8_t> codes;
  std::vector<int8_t> zeros;
  for (const int32_t q : m.codes) codes.push_back(static_cast<int8_t>(q - 128));
  for (const int32_t z : m.zeros) zeros.push_back(static_cast<int8_t>(z - 128));
  return {{"l.weight", "I8", {kLayerRows, kLayerCols}, BytesOf(codes)},
          {"l.weight_scale", "F32", {kLayerRows, kLayerGroups}, BytesOf(m.scales)},
          {"l.weight_zero_point", "I8", {kLayerRows, kLayerGroups}, BytesOf(zeros)}};
}

TEST(QuantizedTensors, Int8WithZeroPoints) {
  LayerCodes m(256);
  ExpectValues(LoadLayer(Int8Tensors(m), kCt8), m);
}

/// What a float8_e4m3 byte stands for.
float Float8(uint8_t byte) {
  const int exponent = byte >> 3 & 15;
  const float mantissa = static_cast<float>(byte & 7) / 8;
  const float magnitude =
      exponent == 0 ? std::ldexp(mantissa, -6) : std::ldexp(1 + mantissa, exponent - 7);
  return byte >= 128 ? -magnitude : magnitude;
}

std::string Float8Codes() {
  std::string codes(kLayerRows * kLayerCols, '\0');
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<char>(i % 127 + i % 2 * 128);
  return codes;
}

TEST(QuantizedTensors, Float8OfATensorAChannelOrABlock) {
  const std::string codes = Float8Codes();
  const TensorToWrite weight = {"l.weight", "F8_E4M3", {kLayerRows, kLayerCols}, codes};
  const auto expect = [&](const absl::StatusOr<std::vector<float>>& got, const auto& scale) {
    ASSERT_TRUE(got.ok()) << got.status();
    for (int64_t i = 0; i < kLayerRows * kLayerCols; ++i) {
      EXPECT_EQ((*got)[i],
                Float8(static_cast<uint8_t>(codes[i])) * scale(i / kLayerCols, i % kLayerCols));
    }
  };
  expect(LoadLayer({weight, {"l.weight_scale", "F32", {}, BytesOf(std::vector<float>{3})}},
                   R"({"quant_method": "fp8"})"),
         [](int64_t, int64_t) { return 3.0f; });
  std::vector<float> channels;
  for (int i = 0; i < kLayerRows; ++i) channels.push_back(static_cast<float>(i + 1));
  expect(LoadLayer(
             {weight, {"l.weight_scale", "F32", {kLayerRows, 1}, BytesOf(channels)}},
             Ct("float-quantized", R"({"num_bits": 8, "type": "float", "strategy": "channel"})")),
         [](int64_t r, int64_t) { return static_cast<float>(r + 1); });
  // Blocks of 10 x 32: both last ones are partial.
  const std::vector<float> blocks = {1, 2, 3, 4, 5, 6};
  expect(LoadLayer({weight, {"l.weight_scale_inv", "F32", {2, 3}, BytesOf(blocks)}},
                   R"({"quant_method": "fp8", "weight_block_size": [10, 32]})"),
         [&](int64_t r, int64_t c) { return blocks[r / 10 * 3 + c / 32]; });
}

TEST(QuantizedTensors, Mxfp4OfOneExpertOfAStack) {
  constexpr float kNumbers[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  constexpr int64_t kDepth = 64;
  std::string blocks(3 * kLayerRows * kDepth / 2, '\0');
  std::string scales(3 * kLayerRows * 2, '\0');
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<char>(i * 37);
  for (size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<char>(120 + i % 9);
  const Tensors tensors = {{"l_blocks", "U8", {3, kLayerRows, 2, 16}, blocks},
                           {"l_scales", "U8", {3, kLayerRows, 2}, scales}};
  const auto got = LoadLayer(tensors, R"({"quant_method": "mxfp4"})", {3, kLayerRows, kDepth}, 1);
  ASSERT_TRUE(got.ok()) << got.status();
  for (int64_t i = 0; i < kLayerRows * kDepth; ++i) {
    const int64_t at = kLayerRows * kDepth + i;
    const int code = static_cast<uint8_t>(blocks[at / 2]) >> (at % 2 * 4) & 15;
    const float number = code < 8 ? kNumbers[code] : -kNumbers[code - 8];
    EXPECT_EQ((*got)[i], std::ldexp(number, static_cast<uint8_t>(scales[at / 32]) - 127));
  }
  EXPECT_THAT(
      LoadLayer(tensors, R"({"quant_method": "mxfp4"})", {4, kLayerRows, kDepth}, 3)
          .status()
          .ToString(),
      HasSubstr("l_blocks\" has shape [3, 16, 2, 16], config.json asks for [4, 16, 2, 16]"));
}

TEST(QuantizedTensors, PlainWeightsAreNotTheirs) {
  const Tensors plain = {
      {"l.weight", "F32", {kLayerRows, kLayerCols}, std::string(kLayerRows * kLayerCols * 4, 'a')}};
  EXPECT_EQ(LayerError(plain, kGptq), "NOT_FOUND: plain");
}

TEST(QuantizedTensors, RefuseShapesThatDoNotFit) {
  LayerCodes m(16);
  Tensors t = GptqTensors(m, 4, 1, {});
  t[2].shape = {kLayerRows, kLayerGroups};
  EXPECT_THAT(LayerError(t, kGptq), HasSubstr("l.scales\" has shape [16, 3], config.json asks for "
                                              "[3, 16]"));
  t = GptqTensors(m, 4, 1, {});
  EXPECT_THAT(LayerError(t, R"({"quant_method": "gptq", "bits": 4, "group_size": 16})"),
              HasSubstr("l.scales\" has shape [3, 16], config.json asks for [5, 16]"));
  EXPECT_THAT(LayerError(t, kGptq8), HasSubstr("l.qweight\" has shape"));
  t.erase(t.begin() + 1);
  EXPECT_THAT(LayerError(t, kGptq), HasSubstr("l.qzeros\" is missing"));
  EXPECT_THAT(LoadLayer(GptqTensors(m, 4, 1, {}), kGptq, {kLayerRows, 81}).status().ToString(),
              HasSubstr("not a multiple of 8"));
  t = GptqTensors(m, 4, 1, {});
  t[2].dtype = "I32";
  t[2].bytes.resize(kLayerGroups * kLayerRows * 4);
  EXPECT_THAT(LayerError(t, kGptq), HasSubstr("l.scales\" is int32, expected float32"));
  t = PackedTensors(m);
  t[3].bytes = BytesOf(std::vector<int64_t>{kLayerRows, -1});
  EXPECT_THAT(LayerError(t, kCt4), HasSubstr("l.weight_shape\" holds [16, -1]"));
  t = PackedTensors(m);
  t[2].shape = {kLayerGroups, kLayerRows / 8};
  EXPECT_THAT(LayerError(t, kCt4), HasSubstr("l.weight_zero_point"));
}

TEST(QuantizedTensors, RefuseGroupIndicesThatAreNoGroups) {
  LayerCodes m(16);
  std::vector<int32_t> group_of = ActOrder();
  group_of[7] = 3;
  EXPECT_THAT(LayerError(GptqTensors(m, 4, 1, group_of), kGptq),
              HasSubstr("l.g_idx\": element 7 is 3, expected 0 to 2"));
  group_of[7] = -1;
  EXPECT_THAT(LayerError(GptqTensors(m, 4, 1, group_of), kGptq), HasSubstr("element 7 is -1"));
  group_of.assign(kLayerCols, 0);
  EXPECT_THAT(LayerError(GptqTensors(m, 4, 1, group_of), kGptq), HasSubstr("group 1 has fewer"));
}

TEST(QuantizedTensors, RefuseWhatTheConfigDoesNotSay) {
  LayerCodes m(16);
  EXPECT_THAT(LayerError(GptqTensors(m, 4, 1, {}), "null"),
              HasSubstr("l.qweight\" is quantised, but config.json has no quantization_config"));
  EXPECT_THAT(LayerError(GptqTensors(m, 4, 1, {}), kCt8), HasSubstr("is not what"));
  EXPECT_THAT(LayerError(GptqTensors(m, 4, 1, {}),
                         R"({"quant_method": "gptq", "bits": 4, "group_size": 32,
                          "modules_to_not_convert": ["l"]})"),
              HasSubstr("says of layer \"l\""));
}

}  // namespace
}  // namespace penstock
