#include "format/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "fakes/gguf_writer.h"
#include "fakes/safetensors_writer.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

std::string GgufErrorOf(std::string_view bytes) {
  const auto contents =
      ParseGguf({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}, "f", 0);
  return contents.ok() ? "" : std::string(contents.status().message());
}

std::string GgufErrorOf(const GgufWriter& writer) { return GgufErrorOf(writer.Bytes()); }

TEST(Gguf, ReadsEveryKindOfValue) {
  GgufWriter writer;
  writer.AddKey("u8", GgufType::kUInt8, GgufNumber<uint8_t>(200));
  writer.AddKey("i8", GgufType::kInt8, GgufNumber<int8_t>(-3));
  writer.AddKey("u16", GgufType::kUInt16, GgufNumber<uint16_t>(60000));
  writer.AddKey("i16", GgufType::kInt16, GgufNumber<int16_t>(-300));
  writer.AddInt("u32", 4000000000u);
  writer.AddKey("i32", GgufType::kInt32, GgufNumber<int32_t>(-5));
  writer.AddKey("u64", GgufType::kUInt64, GgufNumber<uint64_t>(~uint64_t{0}));
  writer.AddKey("i64", GgufType::kInt64, GgufNumber<int64_t>(-6));
  writer.AddFloat("f32", 0.5f);
  writer.AddKey("f64", GgufType::kFloat64, GgufNumber(0.1));
  writer.AddKey("yes", GgufType::kBool, GgufNumber<uint8_t>(1));
  writer.AddString("text", "h\xc3\xa9");
  writer.AddArray("ints", GgufType::kInt16, 2, GgufNumber<int16_t>(-1) + GgufNumber<int16_t>(9));
  writer.AddArray("floats", GgufType::kFloat32, 1, GgufNumber(2.5f));
  writer.AddArray("texts", GgufType::kString, 2, GgufText("a") + GgufText(""));
  const TempDir dir;
  const auto file = Gguf::Open(dir.Write("a.gguf", writer.Bytes()));
  ASSERT_TRUE(file.ok()) << file.status();
  const auto integer = [&](std::string_view key) { return **file->Int(key); };
  EXPECT_EQ(integer("u8"), 200);
  EXPECT_EQ(integer("i8"), -3);
  EXPECT_EQ(integer("u16"), 60000);
  EXPECT_EQ(integer("i16"), -300);
  EXPECT_EQ(integer("u32"), 4000000000);
  EXPECT_EQ(integer("i32"), -5);
  EXPECT_EQ(integer("u64"), INT64_MAX);
  EXPECT_EQ(integer("i64"), -6);
  EXPECT_EQ(**file->Float("f32"), 0.5);
  EXPECT_EQ(**file->Float("f64"), 0.1);
  EXPECT_EQ(**file->Bool("yes"), true);
  EXPECT_EQ(**file->String("text"), "h\xc3\xa9");
  EXPECT_EQ((*file->Ints("ints"))->Int(0), -1);
  EXPECT_EQ((*file->Ints("ints"))->Int(1), 9);
  EXPECT_EQ((*file->Floats("floats"))->Float(0), 2.5);
  EXPECT_EQ(*file->Strings("texts"), (std::vector<std::string_view>{"a", ""}));
  EXPECT_EQ(*file->Int("nothing"), std::nullopt);
  EXPECT_EQ(*file->Ints("nothing"), nullptr);
}

TEST(Gguf, NamesFileKeyAndWhatWasExpected) {
  GgufWriter writer;
  writer.AddString("a.b", "x");
  writer.AddInt("n", 1);
  const TempDir dir;
  const std::string path = dir.Write("a.gguf", writer.Bytes());
  const auto file = Gguf::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->Int("a.b").status().message(), path + ": a.b: expected an integer");
  EXPECT_THAT(std::string(file->Float("n").status().message()), HasSubstr("n: expected a float"));
  EXPECT_THAT(std::string(file->Bool("n").status().message()), HasSubstr("expected a bool"));
  EXPECT_THAT(std::string(file->String("n").status().message()), HasSubstr("expected a string"));
  EXPECT_THAT(std::string(file->Ints("n").status().message()), HasSubstr("array of integers"));
  EXPECT_THAT(std::string(file->Floats("n").status().message()), HasSubstr("array of floats"));
  EXPECT_THAT(std::string(file->Strings("n").status().message()), HasSubstr("array of strings"));
}

TEST(Gguf, ReadsTensorsOfBothVersionsAtTheirAlignment) {
  for (const uint32_t version : {2u, 3u}) {
    GgufWriter writer;
    writer.version = version;
    writer.alignment = 64;
    writer.AddInt("general.alignment", 64);
    writer.AddTensor("x", GgmlType::kF16, {3}, "abcdef");
    writer.AddTensor("y", GgmlType::kQ8_0, {2, 32}, std::string(68, 'q'));
    const TempDir dir;
    const auto file = Gguf::Open(dir.Write("a.gguf", writer.Bytes()));
    ASSERT_TRUE(file.ok()) << file.status();
    const GgufTensor* y = file->FindTensor("y");
    ASSERT_NE(y, nullptr);
    EXPECT_EQ(y->shape, (std::vector<int64_t>{2, 32}));
    EXPECT_EQ(y->type, GgmlType::kQ8_0);
    EXPECT_EQ(y->data.size(), 68u);
    EXPECT_EQ(static_cast<char>(y->data[67]), 'q');
    EXPECT_EQ(static_cast<char>(file->FindTensor("x")->data[5]), 'f');
    EXPECT_EQ(file->FindTensor("z"), nullptr);
  }
}

TEST(Gguf, RefusesOtherHeaders) {
  GgufWriter writer;
  EXPECT_EQ(GgufErrorOf(writer), "");
  writer.version = 1;
  EXPECT_THAT(GgufErrorOf(writer), HasSubstr("version 1, expected 2 or 3"));
  writer.version = 0x03000000;
  EXPECT_THAT(GgufErrorOf(writer), HasSubstr("big endian"));
  EXPECT_THAT(GgufErrorOf("GGML0000"), HasSubstr("does not begin with GGUF"));
  EXPECT_THAT(GgufErrorOf(""), HasSubstr("truncated"));
}

TEST(Gguf, RefusesEveryTruncation) {
  GgufWriter writer;
  writer.AddString("k", "value");
  writer.AddArray("a", GgufType::kString, 2, GgufText("x") + GgufText("yz"));
  writer.AddTensor("t", GgmlType::kF32, {4}, std::string(16, 'x'));
  const std::string bytes = writer.Bytes();
  ASSERT_EQ(GgufErrorOf(bytes), "");
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_NE(GgufErrorOf(bytes.substr(0, size)), "") << size;
  }
}

TEST(Gguf, RefusesCountsThatTheFileCannotHold) {
  GgufWriter strings;
  strings.AddArray("a", GgufType::kString, uint64_t{1} << 40, "");
  EXPECT_THAT(GgufErrorOf(strings), HasSubstr("a: 1099511627776 strings, expected at most"));
  GgufWriter numbers;
  numbers.AddArray("a", GgufType::kUInt64, ~uint64_t{0}, "");
  EXPECT_THAT(GgufErrorOf(numbers), HasSubstr("a: 18446744073709551615 elements"));
  GgufWriter nested;
  nested.AddArray("a", GgufType::kArray, 1, "");
  EXPECT_THAT(GgufErrorOf(nested), HasSubstr("array of arrays"));
  GgufWriter unknown;
  unknown.AddKey("a", static_cast<GgufType>(13), "");
  EXPECT_THAT(GgufErrorOf(unknown), HasSubstr("value type 13"));
  EXPECT_THAT(GgufErrorOf("GGUF" + GgufNumber<uint32_t>(3) + GgufNumber(~uint64_t{0}) +
                          GgufNumber<uint64_t>(0)),
              HasSubstr("tensors and 0 keys, expected at most"));
}

TEST(Gguf, RefusesKeysAndTensorsThatAppearTwice) {
  GgufWriter keys;
  keys.AddInt("k", 1);
  keys.AddInt("k", 1);
  EXPECT_THAT(GgufErrorOf(keys), HasSubstr("k: appears twice"));
  GgufWriter tensors;
  tensors.AddTensor("t", GgmlType::kF32, {1}, "abcd");
  tensors.AddTensor("t", GgmlType::kF32, {1}, "abcd");
  EXPECT_THAT(GgufErrorOf(tensors), HasSubstr("tensor \"t\": appears twice"));
}

TEST(Gguf, RefusesTensorsThatDoNotAddUp) {
  const auto error = [](GgmlType type, const std::vector<uint64_t>& shape, uint64_t offset) {
    GgufWriter writer;
    writer.AddTensor("first", GgmlType::kF32, {16}, std::string(64, 'x'));
    writer.AddTensorAt("t", type, shape, offset);
    return GgufErrorOf(writer);
  };
  EXPECT_THAT(error(GgmlType::kF32, {4, 0}, 0), HasSubstr("dimension 0 is 0"));
  EXPECT_THAT(error(GgmlType::kF32, {uint64_t{1} << 40, uint64_t{1} << 40}, 0),
              HasSubstr("overflow"));
  EXPECT_THAT(error(GgmlType::kF32, {1, 1, 1, 1, 1}, 0), HasSubstr("5 dimensions"));
  EXPECT_THAT(error(GgmlType::kF32, {}, 0), HasSubstr("0 dimensions"));
  EXPECT_THAT(error(static_cast<GgmlType>(99), {4}, 0), HasSubstr("ggml type 99 is not known"));
  EXPECT_THAT(error(GgmlType::kQ4_K, {2, 128}, 0),
              HasSubstr("rows of 128 elements, Q4_K comes in blocks of 256"));
  EXPECT_THAT(error(GgmlType::kF32, {4}, 4), HasSubstr("not a multiple of 32"));
  EXPECT_THAT(error(GgmlType::kF32, {4}, 32), HasSubstr("overlaps tensor \"first\""));
  EXPECT_THAT(error(GgmlType::kF32, {17}, 0), HasSubstr("do not lie within"));
  EXPECT_THAT(error(GgmlType::kF32, {1}, ~uint64_t{31}), HasSubstr("do not lie within"));
  EXPECT_THAT(error(GgmlType::kF32, {1}, 64), HasSubstr("f: tensor \"t\": its 4 bytes at 64"));
}

TEST(Gguf, RefusesAnAlignmentThatIsNoPowerOfTwo) {
  for (const uint32_t alignment : {0u, 48u, 1u << 21}) {
    GgufWriter writer;
    writer.AddInt("general.alignment", alignment);
    EXPECT_THAT(GgufErrorOf(writer), HasSubstr("general.alignment: expected a power of two"));
  }
}

std::string GgufShard(uint16_t number, uint16_t count, const std::string& tensor, int32_t total) {
  GgufWriter writer;
  writer.AddKey("split.no", GgufType::kUInt16, GgufNumber(number));
  writer.AddKey("split.count", GgufType::kUInt16, GgufNumber(count));
  writer.AddKey("split.tensors.count", GgufType::kInt32, GgufNumber(total));
  if (number == 0) writer.AddString("general.architecture", "llama");
  writer.AddTensor(tensor, GgmlType::kF32, {1}, "abc" + std::to_string(number));
  return writer.Bytes();
}

TEST(Gguf, OpensAllShardsOfAModel) {
  const TempDir dir;
  const std::string first = dir.Write("m-00001-of-00002.gguf", GgufShard(0, 2, "a", 2));
  EXPECT_THAT(std::string(Gguf::Open(first).status().message()),
              HasSubstr("m-00002-of-00002.gguf"));
  const std::string second = dir.Write("m-00002-of-00002.gguf", GgufShard(1, 2, "b", 2));
  const auto model = Gguf::Open(first);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->paths().size(), 2u);
  EXPECT_EQ(static_cast<char>(model->FindTensor("a")->data[3]), '0');
  EXPECT_EQ(static_cast<char>(model->FindTensor("b")->data[3]), '1');
  EXPECT_EQ(model->FindTensor("b")->file, 1);
  EXPECT_EQ(**model->String("general.architecture"), "llama");
  EXPECT_THAT(std::string(Gguf::Open(second).status().message()),
              HasSubstr("is shard 2, expected the first"));
}

TEST(Gguf, RefusesShardsThatDoNotFit) {
  const TempDir dir;
  const std::string first = dir.Write("m-00001-of-00002.gguf", GgufShard(0, 2, "a", 2));
  const auto error = [&](const std::string& second) {
    dir.Write("m-00002-of-00002.gguf", second);
    return std::string(Gguf::Open(first).status().message());
  };
  EXPECT_THAT(error(GgufShard(1, 3, "b", 2)), HasSubstr("split.count is 3, expected 2"));
  EXPECT_THAT(error(GgufShard(0, 2, "b", 2)), HasSubstr("split.no is 0, expected 1"));
  EXPECT_THAT(error(GgufShard(1, 2, "a", 2)), HasSubstr("is in an earlier shard as well"));
  EXPECT_THAT(error(GgufWriter().Bytes()), HasSubstr("split.count is missing"));
  dir.Write("m-00001-of-00002.gguf", GgufShard(0, 2, "a", 3));
  EXPECT_THAT(error(GgufShard(1, 2, "b", 2)), HasSubstr("split.tensors.count is 3, expected 2"));
  const std::string other = dir.Write("other.gguf", GgufShard(0, 2, "a", 2));
  EXPECT_THAT(std::string(Gguf::Open(other).status().message()),
              HasSubstr("expected a name that ends in -00001-of-00002.gguf"));
}

}  // namespace
}  // namespace penstock
