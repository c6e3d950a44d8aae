#include "text/reply/argument_kind.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace penstock {
namespace {

ArgumentKind KindIn(const char* root, const char* schema) {
  return KindOfArgument(nlohmann::ordered_json::parse(schema), nlohmann::ordered_json::parse(root));
}

TEST(ArgumentKind, IsTextWhereNothingButStringsFulfilsTheSchema) {
  EXPECT_EQ(KindIn("{}", R"({"type": "string"})"), ArgumentKind::kText);
  EXPECT_EQ(KindIn("{}", R"({"enum": ["a", "1"]})"), ArgumentKind::kText);
  EXPECT_EQ(KindIn("{}", R"({"const": "null"})"), ArgumentKind::kText);
  EXPECT_EQ(KindIn("{}", R"({"type": ["string", "null"]})"), ArgumentKind::kTextOrNull);
  EXPECT_EQ(KindIn("{}", R"({"anyOf": [{"type": "null"}, {"const": "a"}]})"),
            ArgumentKind::kTextOrNull);
  EXPECT_EQ(KindIn(R"({"$defs": {"word": {"type": "string"}}})", R"({"$ref": "#/$defs/word"})"),
            ArgumentKind::kText);
  for (const char* json : {"{}", "true", "[]", R"({"type": "null"})", R"({"type": 1})",
                           R"({"type": ["string", "integer"]})", R"({"enum": ["a", 1]})",
                           R"({"anyOf": []})", R"({"$ref": "#/$defs/absent"})"})
    EXPECT_EQ(KindIn("{}", json), ArgumentKind::kJson) << json;
}

TEST(ArgumentKind, IsJsonWhereUnionsReferToThemselvesWithoutEnd) {
  const char* root = R"({"$defs": {
      "all": {"anyOf": [{"$ref": "#/$defs/all"}, {"$ref": "#/$defs/all"}, {"type": "string"},
                        {"$ref": "#/$defs/all"}, {"$ref": "#/$defs/all"}]},
      "ring": {"$ref": "#/$defs/ring"}}})";
  EXPECT_EQ(KindIn(root, R"({"$ref": "#/$defs/all"})"), ArgumentKind::kJson);
  EXPECT_EQ(KindIn(root, R"({"$ref": "#/$defs/ring"})"), ArgumentKind::kJson);
}

}  // namespace
}  // namespace penstock
