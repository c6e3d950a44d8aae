#include "service/wire_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "service/json_body.h"
#include "test_seed.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;

/// Both readers take `text`, as the same value, or refuse it in the same words.
void ExpectSame(const std::string& text) {
  const absl::StatusOr<WireDocument> read = WireDocument::Parse(text);
  const absl::StatusOr<Json> tree = ParseWireJson(text);
  ASSERT_EQ(read.status(), tree.status()) << text;
  if (!tree.ok()) return;
  ASSERT_EQ(read->root().Tree().dump(), tree->dump()) << text;
}

std::string Nested(int depth) { return std::string(depth, '[') + std::string(depth, ']'); }

std::string Members(int count, const std::string& of) {
  std::string out = "{";
  for (int i = 0; i < count; ++i) absl::StrAppend(&out, i == 0 ? "" : ",", "\"", i, "\":", of);
  return out + "}";
}

TEST(WireJson, ReadsValuesOfEveryKind) {
  const auto document = WireDocument::Parse(
      R"({"a":null,"b":true,"c":-3,"d":2.5,"e":"x\u00e9\n","f":[1,2],"g":{"h":18446744073709551615},)"
      R"("i":3.0,"j":1e30})");
  ASSERT_TRUE(document.ok()) << document.status();
  const WireValue& root = document->root();
  EXPECT_TRUE(root.Find("a")->is_null());
  EXPECT_TRUE(root.Find("b")->boolean());
  EXPECT_EQ(root.Find("c")->integer(), -3);
  EXPECT_EQ(root.Find("c")->number(), -3);
  EXPECT_EQ(root.Find("d")->number(), 2.5);
  EXPECT_EQ(root.Find("d")->integer(), std::nullopt);
  EXPECT_EQ(root.Find("e")->text(), "x\xC3\xA9\n");
  EXPECT_EQ(root.Find("f")->Items().size(), 2);
  const WireValue large = *root.Find("g")->Find("h");
  EXPECT_TRUE(large.is_integer());
  EXPECT_EQ(large.integer(), std::nullopt);
  EXPECT_FALSE(root.Find("i")->is_integer());
  EXPECT_EQ(root.Find("i")->integer(), 3);
  EXPECT_EQ(root.Find("j")->integer(), std::nullopt);
  EXPECT_EQ(root.Find("k"), std::nullopt);
  EXPECT_EQ(root.Find("b")->text(), "");
  EXPECT_EQ(root.Find("g")->type_name(), "object");
}

TEST(WireJson, TakesTheLastOfMembersOfOneNameInThePlaceOfTheFirst) {
  const auto document = WireDocument::Parse(R"({"a":1,"b":2,"a":[3]})");
  ASSERT_TRUE(document.ok());
  const auto members = document->root().Members();
  ASSERT_EQ(members.size(), 2);
  EXPECT_EQ(members[0].first, "a");
  EXPECT_TRUE(members[0].second.is_array());
  EXPECT_TRUE(document->root().Find("a")->is_array());
  std::string many = "{";
  for (int i = 0; i < 900; ++i) absl::StrAppend(&many, i == 0 ? "" : ",", "\"", i % 300, "\":", i);
  const auto long_one = WireDocument::Parse(many + "}");
  ASSERT_TRUE(long_one.ok());
  const auto all = long_one->root().Members();
  ASSERT_EQ(all.size(), 300);
  EXPECT_EQ(all[7].first, "7");
  EXPECT_EQ(all[7].second.integer(), 607);
}

TEST(WireJson, AgreesWithTheTreeAtTheEdges) {
  for (const std::string text : {"",
                                 " ",
                                 "nul",
                                 "{",
                                 "[1,]",
                                 "[1 2]",
                                 "{\"a\" 1}",
                                 "[] x",
                                 "\"\x01\"",
                                 "\"\xFF\"",
                                 "\"\xED\xA0\x80\"",
                                 "\"\\ud800\"",
                                 "\"\\udc00\"",
                                 "\"\\ud800\\u0041\"",
                                 "\"\\ud83d\\ude00\"",
                                 "\"\\u12\"",
                                 "\"\\x\"",
                                 "NaN",
                                 "[NaN]",
                                 "[Infinity]",
                                 "[-Infinity]",
                                 "01",
                                 "1.",
                                 ".5",
                                 "+1",
                                 "-",
                                 "1e",
                                 "1e999",
                                 "-1e999",
                                 "1e-999",
                                 "-0",
                                 "-0.0",
                                 "0.1",
                                 "1.7976931348623157e308",
                                 "5e-324",
                                 "9223372036854775807",
                                 "9223372036854775808",
                                 "-9223372036854775808",
                                 "-9223372036854775809",
                                 "18446744073709551615",
                                 "18446744073709551616",
                                 "123456789012345678901234567890",
                                 "\xEF\xBB\xBF[1]",
                                 "[1]\xEF\xBB\xBF",
                                 "/*c*/1",
                                 "\"a\nb\"",
                                 "\"\t\"",
                                 "\t[ 1 ]\r\n",
                                 "{\"\":{}}",
                                 "'a'",
                                 "[1e5,1E+5,1.5e-3]",
                                 "{\"a\":1,\"a\":{\"b\":2},\"a\":3}"})
    ExpectSame(text);
  ExpectSame(std::string("[1]\0", 4));
  ExpectSame(std::string("\"a\0b\"", 5));
  ExpectSame(R"("\u0000")");
  for (int depth : {1, 99, 100, 101, 102, 111, 112, 120, 5000}) {
    ExpectSame(Nested(depth));
    ExpectSame(Nested(depth).insert(depth, "1"));
    ExpectSame(Nested(depth).insert(depth, "{}"));
  }
  for (int count : {1, 1023, 1024, 1025, 3000}) {
    ExpectSame(Members(count, "1"));
    ExpectSame("[[" + Members(count, "\":\"") + "]]");
  }
  ExpectSame(Nested(100).insert(100, "123456789012345678901234567890"));
}

TEST(WireJson, ErrorsSayWhereAndNothingOfWhatWasSent) {
  for (const char* text :
       {R"({"prompt": "a secret)", R"({"prompt": "a secret\x"})", "asecret", R"({"a": asecret})"}) {
    const absl::Status status = ParseWireJson(text).status();
    EXPECT_THAT(status.message(), testing::HasSubstr("line 1, column")) << text;
    EXPECT_THAT(status.message(), testing::Not(testing::HasSubstr("secret"))) << text;
  }
}

TEST(WireJson, ANulEndsNothing) {
  using std::string_literals::operator""s;
  for (const std::string& text :
       {"{}\0"s, "{}\0x"s, "{} \0 {}"s, "[1]\0\0"s, "\0{}"s, "{\0}"s, "1\0"s})
    EXPECT_FALSE(WireDocument::Parse(text).ok()) << text.size();
  EXPECT_TRUE(WireDocument::Parse(R"({"a":"\u0000"})").ok());
}

TEST(WireJson, SaysWhereAndWhat) {
  const auto refused = WireDocument::Parse("{\"a\":\n  tru}", "metadata");
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()),
              HasSubstr("metadata is not valid JSON at line 2"));
  EXPECT_THAT(std::string(WireDocument::Parse(Nested(101)).status().message()),
              HasSubstr("nested deeper than 100 levels"));
  EXPECT_THAT(std::string(WireDocument::Parse(Members(1025, "1")).status().message()),
              HasSubstr("more than 1024 members"));
  // An empty array is two bytes here and fifty in a tree.
  const auto empty_arrays = [](size_t n) {
    std::string text = "[[]";
    for (size_t i = 1; i < n; ++i) text += i % 2 == 0 ? ",[]" : ",{}";
    return text + "]";
  };
  EXPECT_TRUE(WireDocument::Parse(empty_arrays((1 << 18) - 1)).ok());
  EXPECT_THAT(std::string(WireDocument::Parse(empty_arrays(1 << 18)).status().message()),
              HasSubstr("more than 262144 arrays and objects"));
}

TEST(WireJson, AgreesWithTheTreeOnBrokenTexts) {
  const std::string whole =
      R"({"model":"m","messages":[{"role":"user","content":"a\ud83d\ude00 \u00e9 \\ \" é"}],"n":2,)"
      R"("temperature":0.70,"seed":-12345678901,"stop":["x",null,true],"logit_bias":{"5":-1e2}})";
  constexpr char kBytes[] = "{}[]\",:\\u0123456789abcdefDd8eE+-.truefalsn \n\x01\xFF\xC3\xA9";
  std::mt19937_64 random(TestSeed());
  for (int i = 0; i < 8000; ++i) {
    std::string text = whole;
    for (uint64_t changes = 1 + random() % 3; changes > 0; --changes) {
      const size_t at = random() % text.size();
      const char byte = kBytes[random() % (sizeof kBytes - 1)];
      switch (random() % 4) {
        case 0:
          text[at] = byte;
          break;
        case 1:
          text.insert(at, 1, byte);
          break;
        case 2:
          text.erase(at, 1 + random() % 4);
          break;
        default:
          text.insert(at, text.substr(random() % text.size(), random() % 20));
      }
    }
    ExpectSame(text);
    if (HasFatalFailure()) return;
  }
}

TEST(WireJson, KeepsDocumentsApart) {
  auto first = WireDocument::Parse(R"({"a":"one"})");
  auto second = WireDocument::Parse(R"({"a":"two"})");
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->root().Find("a")->text(), "one");
  WireDocument moved = *std::move(second);
  EXPECT_EQ(moved.root().Find("a")->text(), "two");
  first = WireDocument::Parse("[" + std::string(1 << 20, ' ') + "\"large\"]");
  EXPECT_EQ(first->root().Items().front().text(), "large");
  EXPECT_EQ(moved.root().Find("a")->text(), "two");
}

}  // namespace
}  // namespace penstock
