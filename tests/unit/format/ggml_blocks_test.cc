#include "format/ggml_blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "format/gguf.h"

namespace penstock {
namespace {

// What package `gguf` makes of random blocks: tests/goldens/write_ggml_blocks.py.
constexpr char kBlocksFile[] = PENSTOCK_SOURCE_DIR "/tests/goldens/ggml_blocks.gguf";
constexpr const char* kTypes[] = {"F32",  "F16",  "BF16", "Q4_0", "Q4_1", "Q5_0",   "Q5_1", "Q8_0",
                                  "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "MXFP4"};

std::vector<float> FloatsOf(const GgufTensor& tensor) {
  std::vector<float> out(tensor.data.size() / sizeof(float));
  std::memcpy(out.data(), tensor.data.data(), tensor.data.size());
  return out;
}

TEST(GgmlBlocks, DequantizesEveryTypeToTheBitsOfPackageGguf) {
  const auto file = Gguf::Open(kBlocksFile);
  ASSERT_TRUE(file.ok()) << file.status();
  for (const std::string type : kTypes) {
    const GgufTensor* blocks = file->FindTensor(type + ".blocks");
    const GgufTensor* values = file->FindTensor(type + ".values");
    ASSERT_TRUE(blocks != nullptr && values != nullptr) << type;
    EXPECT_EQ(FindGgmlType(static_cast<uint32_t>(blocks->type))->name, type);
    EXPECT_TRUE(IsDecodedGgmlType(blocks->type)) << type;
    EXPECT_EQ(blocks->shape, (std::vector<int64_t>{2, 256}));
    std::vector<float> got(2 * 256);
    DequantizeGgmlRows(blocks->type, blocks->data.data(), 2, 256, got.data());
    EXPECT_EQ(std::memcmp(got.data(), values->data.data(), sizeof(float) * got.size()), 0) << type;
  }
}

TEST(GgmlBlocks, DecodedCodesScalesAndOffsetsGiveTheSameValues) {
  const auto file = Gguf::Open(kBlocksFile);
  ASSERT_TRUE(file.ok()) << file.status();
  int num_quantized = 0;
  for (const std::string type : kTypes) {
    const GgufTensor* blocks = file->FindTensor(type + ".blocks");
    const std::optional<GgmlForm> form = GgmlFormOf(blocks->type);
    if (!form) continue;
    ++num_quantized;
    std::vector<uint8_t> codes(512, 255);
    std::vector<float> scales(512 / form->group);
    std::vector<float> offsets(512 / form->group, 7.0f);
    DecodeGgmlRows(blocks->type, blocks->data.data(), 2, 256,
                   {codes.data(), scales.data(), offsets.data()});
    std::vector<float> alone(scales.size());
    DecodeGgmlRows(blocks->type, blocks->data.data(), 2, 256, {.scales = alone.data()});
    EXPECT_EQ(alone, scales) << type;
    const std::vector<float> expected = FloatsOf(*file->FindTensor(type + ".values"));
    for (int i = 0; i < 512; ++i) {
      ASSERT_LT(codes[i], 1 << form->bits) << type;
      const float value =
          form->book.empty() ? static_cast<float>(codes[i] - form->center) : form->book[codes[i]];
      const float product = scales[i / form->group] * value;
      ASSERT_EQ(form->has_offset ? product + offsets[i / form->group] : product, expected[i])
          << type << " element " << i;
    }
    if (!form->has_offset) {
      EXPECT_THAT(offsets, testing::Each(7.0f));
    }
  }
  EXPECT_EQ(num_quantized, 12);
}

TEST(GgmlBlocks, KnowsTheSizeOfTypesThatItDoesNotDecode) {
  const GgmlTypeInfo* info = FindGgmlType(23);
  ASSERT_NE(info, nullptr);
  EXPECT_EQ(info->name, "IQ4_XS");
  EXPECT_FALSE(IsDecodedGgmlType(static_cast<GgmlType>(23)));
  EXPECT_EQ(FindGgmlType(4), nullptr);  // withdrawn
  EXPECT_EQ(GgmlRowBytes(GgmlType::kQ6_K, 512), 420);
}

}  // namespace
}  // namespace penstock
