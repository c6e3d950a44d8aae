#include "format/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "fakes/safetensors_writer.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

std::string ErrorOf(std::string_view bytes) {
  Safetensors::Entries entries;
  const absl::Status status = ParseSafetensors(
      {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}, "f", 0, entries);
  return status.ok() ? "" : std::string(status.message());
}

std::string Entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{\"t\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets +
         "}}";
}

TEST(Safetensors, ReadsShapeTypeAndData) {
  const TempDir dir;
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const std::string path =
      dir.Write("a", SafetensorsFile({{"x", "F32", {2, 3}, BytesOf(values)},
                                      {"empty", "BF16", {0, 7}, ""},
                                      {"scalar", "I64", {}, BytesOf(std::vector<int64_t>{9})}}));
  const auto file = Safetensors::OpenFile(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const SafetensorsEntry* x = file->Find("x");
  ASSERT_NE(x, nullptr);
  EXPECT_EQ(x->dtype, DType::kFloat32);
  EXPECT_EQ(x->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(x->data.data(), values.data(), 24), 0);
  EXPECT_EQ(file->Find("scalar")->data.size(), 8u);
  EXPECT_EQ(file->Find("nothing"), nullptr);
}

TEST(Safetensors, SkipsMetadata) {
  EXPECT_EQ(ErrorOf(SafetensorsFile(R"({"__metadata__":{"format":"pt"}})", "")), "");
}

TEST(Safetensors, AcceptsPaddingAfterTheHeader) {
  EXPECT_EQ(ErrorOf(SafetensorsFile(Entry("U8", "[4]", "[0,4]") + "    ", "abcd")), "");
}

TEST(Safetensors, RefusesShortAndTruncatedFiles) {
  EXPECT_THAT(ErrorOf("abc"), HasSubstr("too short"));
  EXPECT_THAT(ErrorOf(SafetensorsFile(Entry("U8", "[4]", "[0,4]"), "abcd").substr(0, 30)),
              HasSubstr("truncated"));
  EXPECT_THAT(ErrorOf(SafetensorsFile(Entry("U8", "[4]", "[0,4]"), "abc")), HasSubstr("\"t\""));
}

TEST(Safetensors, RefusesAHeaderLargerThanItsLimit) {
  const uint64_t size = 100'000'001;
  std::string bytes(reinterpret_cast<const char*>(&size), 8);
  EXPECT_THAT(ErrorOf(bytes + "{}"), HasSubstr("header of 100000001 bytes"));
}

TEST(Safetensors, RefusesWhatIsNotAnObjectOfObjects) {
  EXPECT_THAT(ErrorOf(SafetensorsFile("[1]", "")), HasSubstr("expected an object"));
  EXPECT_THAT(ErrorOf(SafetensorsFile("{\"a\":", "")), HasSubstr("not JSON"));
  EXPECT_THAT(ErrorOf(SafetensorsFile("{\"a\":3}", "")),
              HasSubstr("expected an object with dtype"));
  EXPECT_THAT(ErrorOf(SafetensorsFile(std::string(100000, '['), "")), HasSubstr("deeper"));
}

TEST(Safetensors, RefusesOffsetsOutsideTheFile) {
  EXPECT_THAT(ErrorOf(SafetensorsFile(Entry("U8", "[9]", "[0,9]"), "abcd")),
              HasSubstr("do not lie within"));
  EXPECT_THAT(ErrorOf(SafetensorsFile(Entry("U8", "[4]", "[4,0]"), "abcd")),
              HasSubstr("do not lie within"));
  EXPECT_THAT(ErrorOf(SafetensorsFile(Entry("U8", "[4]", "[-4,0]"), "abcd")),
              HasSubstr("whole numbers"));
  EXPECT_THAT(ErrorOf(SafetensorsFile(Entry("U8", "[4]", "[0.5,4]"), "abcd")),
              HasSubstr("whole numbers"));
  EXPECT_THAT(ErrorOf(SafetensorsFile(Entry("U8", "[4]", "[0,18446744073709551615]"), "abcd")),
              HasSubstr("do not lie within"));
}

TEST(Safetensors, RefusesAShapeThatDoesNotFitItsBytes) {
  EXPECT_THAT(ErrorOf(SafetensorsFile(Entry("F32", "[2]", "[0,4]"), "abcd")),
              HasSubstr("needs 8 bytes"));
  EXPECT_THAT(ErrorOf(SafetensorsFile(Entry("F32", "[4611686018427387904,4]", "[0,4]"), "abcd")),
              HasSubstr("too many bytes"));
  EXPECT_THAT(ErrorOf(SafetensorsFile(Entry("U8", "[-4]", "[0,4]"), "abcd")),
              HasSubstr("whole number"));
  EXPECT_THAT(
      ErrorOf(SafetensorsFile(Entry("U8", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,4]", "[0,4]"), "abcd")),
      HasSubstr("dimensions"));
}

TEST(Safetensors, NamesAnUnknownType) {
  EXPECT_THAT(ErrorOf(SafetensorsFile(Entry("F8_E5M2", "[4]", "[0,4]"), "abcd")),
              HasSubstr("F8_E5M2"));
}

TEST(Safetensors, RefusesOverlapsAndHoles) {
  const std::string a = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)";
  EXPECT_THAT(ErrorOf(SafetensorsFile(a + R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
                                      "abcdef")),
              HasSubstr("overlaps"));
  EXPECT_THAT(ErrorOf(SafetensorsFile(a + R"("b":{"dtype":"U8","shape":[1],"data_offsets":[5,6]}})",
                                      "abcdef")),
              HasSubstr("hole"));
  EXPECT_THAT(ErrorOf(SafetensorsFile(a.substr(0, a.size() - 1) + "}", "abcdef")),
              HasSubstr("end at byte 4"));
}

TEST(Safetensors, RefusesADuplicateName) {
  const std::string a = R"("a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]})";
  EXPECT_THAT(ErrorOf(SafetensorsFile("{" + a + "," + a + "}", "ab")), HasSubstr("twice"));
}

TEST(Safetensors, OpensShardsByTheirIndex) {
  const TempDir dir;
  dir.Write("m-1.safetensors", SafetensorsFile({{"a", "U8", {1}, "a"}}));
  dir.Write("m-2.safetensors", SafetensorsFile({{"b", "U8", {1}, "b"}}));
  dir.Write("model.safetensors.index.json",
            R"({"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}})");
  const auto model = Safetensors::OpenModel(dir.path());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->entries().size(), 2u);
  EXPECT_EQ(model->paths().size(), 2u);
}

TEST(Safetensors, RefusesAnIndexThatLies) {
  const TempDir dir;
  dir.Write("m-1.safetensors", SafetensorsFile({{"a", "U8", {1}, "a"}}));
  dir.Write("m-2.safetensors", SafetensorsFile({{"b", "U8", {1}, "b"}}));
  const auto error = [&](const std::string& index) {
    dir.Write("model.safetensors.index.json", index);
    return std::string(Safetensors::OpenModel(dir.path()).status().message());
  };
  EXPECT_THAT(error(R"({"weight_map":{"b":"m-1.safetensors"}})"), HasSubstr("\"b\""));
  EXPECT_THAT(error(R"({"weight_map":{"a":"../m-1.safetensors"}})"), HasSubstr("plain file name"));
  EXPECT_THAT(error(R"({"weight_map":{"a":7}})"), HasSubstr("not a string"));
  EXPECT_THAT(error(R"({"weight_map":{"a":"m-3.safetensors"}})"), HasSubstr("m-3.safetensors"));
  EXPECT_THAT(error("{}"), HasSubstr("weight_map"));
}

TEST(Safetensors, RefusesATensorThatTwoShardsHold) {
  const TempDir dir;
  dir.Write("m-1.safetensors", SafetensorsFile({{"a", "U8", {1}, "a"}}));
  dir.Write("m-2.safetensors", SafetensorsFile({{"a", "U8", {1}, "b"}, {"b", "U8", {1}, "b"}}));
  dir.Write("model.safetensors.index.json",
            R"({"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}})");
  EXPECT_THAT(std::string(Safetensors::OpenModel(dir.path()).status().message()),
              HasSubstr("earlier shard"));
}

TEST(Safetensors, NamesTheMissingModelFile) {
  const TempDir dir;
  EXPECT_THAT(std::string(Safetensors::OpenModel(dir.path()).status().message()),
              HasSubstr("model.safetensors"));
}

}  // namespace
}  // namespace penstock
