// Every keyword, against the labels of the Python package jsonschema; what is refused, and how
// that is said; how long hostile schemas take.
#include "text/grammar/json_schema.h"

#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "text/grammar/matcher.h"
#include "unit/text/grammar/schema_corpus.h"

namespace penstock::grammar {
namespace {

using Json = nlohmann::ordered_json;

bool InstanceMatches(const std::shared_ptr<const Grammar>& grammar, const std::string& text) {
  Matcher matcher(grammar);
  return matcher.Accept(text) && matcher.finished();
}

TEST(JsonSchema, AgreesWithThePythonPackage) {
  std::ifstream in(std::string(PENSTOCK_SOURCE_DIR) + "/tests/unit/text/grammar/schema_cases.json");
  const Json cases = Json::parse(in);
  ASSERT_GT(cases.size(), 80u);
  for (const Json& one : cases) {
    SCOPED_TRACE(one["schema"].dump());
    absl::StatusOr<Grammar> made = CompileJsonSchema(one["schema"], {});
    ASSERT_TRUE(made.ok()) << made.status();
    const auto grammar = std::make_shared<const Grammar>(*std::move(made));
    const InstanceOrder order(one["schema"]);
    for (const bool valid : {true, false}) {
      for (const Json& value : one[valid ? "valid" : "invalid"]) {
        for (const bool compact : {true, false}) {
          const std::string text = PythonJson(order.Ordered(value), compact);
          // The integer of a float is written as one.
          if (valid && value.is_number_float() && text.ends_with(".0")) continue;
          EXPECT_EQ(InstanceMatches(grammar, text), valid) << text;
        }
      }
    }
  }
}

TEST(JsonSchema, TakesMembersInTheOrderOfTheSchemaAndBoundedBlanks) {
  const Json schema = Json::parse(R"({"type":"object","properties":{"b":{},"a":{}}})");
  const auto grammar = std::make_shared<const Grammar>(*CompileJsonSchema(schema, {}));
  EXPECT_TRUE(InstanceMatches(grammar, R"({"b":1,"a":2})"));
  EXPECT_FALSE(InstanceMatches(grammar, R"({"a":2,"b":1})"));
  EXPECT_TRUE(InstanceMatches(grammar, "{\n  \"b\": [\n    1,\n    2\n  ]\n}"));
  EXPECT_FALSE(InstanceMatches(grammar, "{  \"b\": 1}"));
  EXPECT_FALSE(InstanceMatches(grammar, "{\"b\": 1} "));
  EXPECT_FALSE(InstanceMatches(grammar, R"({"b":1,"b":2})"));
}

TEST(JsonSchema, StrictBoundsHoldAfterRounding) {
  const struct {
    const char* schema;
    std::vector<const char*> valid, invalid;
  } cases[] = {
      {R"({"exclusiveMaximum":-29.590000000000003})",
       {"-29.59000000000001", "-30", "-29.590000000000007"},
       {"-29.590000000000004", "-29.590000000000003", "-29.59"}},
      {R"({"exclusiveMinimum":5})",
       {"5.000000000000001", "6", "5.5"},
       {"5", "5.0", "5.00000000000000001", "4.9"}},
      {R"({"not":{"minimum":5}})", {"4.999999999999999", "-7"}, {"4.99999999999999999", "5"}},
      {R"({"not":{"exclusiveMinimum":5}})", {"5", "4.9"}, {"5.000000000000001", "6"}},
      {R"({"minimum":0.1})", {"0.1", "0.10"}, {"0.09999999999999999"}},
      {R"({"exclusiveMinimum":0})", {"0.5", "0.0000001"}, {"0", "0.0"}},
      {R"({"type":"integer","exclusiveMaximum":9007199254740993})",
       {"9007199254740992"},
       {"9007199254740993"}},
      {R"({"type":"integer","exclusiveMinimum":9007199254740990})",
       {"9007199254740991"},
       {"9007199254740990"}},
  };
  for (const auto& [schema, valid, invalid] : cases) {
    SCOPED_TRACE(schema);
    Json json = Json::parse(schema);
    if (!json.contains("type")) json["type"] = "number";
    absl::StatusOr<Grammar> made = CompileJsonSchema(json, {});
    ASSERT_TRUE(made.ok()) << made.status();
    const auto grammar = std::make_shared<const Grammar>(*std::move(made));
    for (const char* text : valid) EXPECT_TRUE(InstanceMatches(grammar, text)) << text;
    for (const char* text : invalid) EXPECT_FALSE(InstanceMatches(grammar, text)) << text;
  }
}

struct RefusedSchema {
  const char* schema;
  const char* message;
};

class RefusedSchemaTest : public testing::TestWithParam<RefusedSchema> {};

TEST_P(RefusedSchemaTest, NamesThePath) {
  const absl::StatusOr<Grammar> made = CompileJsonSchema(Json::parse(GetParam().schema), {});
  ASSERT_FALSE(made.ok());
  EXPECT_THAT(std::string(made.status().message()), testing::HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Schemas, RefusedSchemaTest,
    testing::Values(
        RefusedSchema{R"({"properties":{"a":{"type":"array","uniqueItems":true}}})",
                      "#/properties/a/uniqueItems: "},
        RefusedSchema{R"({"properties":{"a":{"type":"number","minimum":5,"maximum":3}}})",
                      "#/properties/a/minimum must be at most"},
        RefusedSchema{R"({"type":"string","minLength":5,"maxLength":3})", "#/minLength must be"},
        RefusedSchema{R"({"properties":{"a":{"enum":[]}}})", "#/properties/a/enum must be"},
        RefusedSchema{R"({"$ref":"#"})", "refers to itself"},
        RefusedSchema{R"({"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},)"
                      R"("b":{"allOf":[{"$ref":"#/$defs/a"}]}}})",
                      "refers to itself"},
        RefusedSchema{R"({"$ref":"https://example.com/other.json"})", "#/$ref: "},
        RefusedSchema{R"({"$ref":"#/$defs/none"})", "points at nothing"},
        RefusedSchema{R"({"type":"object","properties":{"a":{"type":"object","properties":{"b":)"
                      R"({"allOf":[{"type":"string"},{"type":"null"}]}},"required":["b"]}},)"
                      R"("required":["a"]})",
                      "#/properties/a/properties/b: no value can fulfil this"},
        RefusedSchema{R"({"type":"array","items":{"$ref":"#"},"minItems":1})", "#: no value"},
        RefusedSchema{R"({"properties":{"a":{"type":"string","pattern":"(a"}}})",
                      "#/properties/a/pattern: "},
        RefusedSchema{R"({"properties":{"a":{"type":"string","pattern":"(a)\\1"}}})",
                      "#/properties/a/pattern: a back reference"},
        RefusedSchema{R"({"properties":{"a":{"type":"string","format":"regex"}}})",
                      "#/properties/a/format: "},
        RefusedSchema{R"({"properties":{"a":{"type":"text"}}})", "#/properties/a/type must be"},
        RefusedSchema{R"({"properties":{"a":7}})", "#/properties/a: a schema must be"},
        RefusedSchema{R"({"type":"object","minProperties":3})", "#/minProperties: "},
        RefusedSchema{R"({"type":"object","not":{"maxProperties":3}})", "#/not/maxProperties: "},
        RefusedSchema{R"({"allOf":[{"minProperties":3},{"maxProperties":9}],"type":"object"})",
                      "#/allOf/0/minProperties: "},
        // A second member of the same name would undo what the first one fulfils.
        RefusedSchema{R"({"type":"object","not":{"additionalProperties":{"type":"integer"}}})",
                      "#/not/additionalProperties: "},
        RefusedSchema{R"({"properties":{"a":{"type":"object",)"
                      R"("not":{"patternProperties":{"^x":{"type":"string"}}}}}})",
                      "#/properties/a/not/patternProperties: "},
        RefusedSchema{R"({"type":"object","not":{"unevaluatedProperties":{"type":"integer"}}})",
                      "#/not/unevaluatedProperties: "},
        RefusedSchema{R"({"anyOf":[{"properties":{"a":true}},{"properties":{"b":true}}],)"
                      R"("type":"object","unevaluatedProperties":false})",
                      "#/unevaluatedProperties: "},
        // An override that the way through the outer schema brings.
        RefusedSchema{R"({"$id":"https://a.example/strings","$ref":"list","$defs":{)"
                      R"("s":{"$dynamicAnchor":"item","type":"string"},)"
                      R"("list":{"$id":"list","type":"array","items":{"$dynamicRef":"#item"},)"
                      R"("$defs":{"any":{"$dynamicAnchor":"item"}}}}})",
                      "#/$defs/list/items/$dynamicRef: several schemas"},
        RefusedSchema{R"({"$schema":"https://json-schema.org/draft/2019-09/schema",)"
                      R"("$id":"https://a.example/strict","$recursiveAnchor":true,"$ref":"tree",)"
                      R"("$defs":{"tree":{"$id":"tree","$recursiveAnchor":true,"type":"object",)"
                      R"("properties":{"a":{"$recursiveRef":"#"}}}}})",
                      "#/$defs/tree/properties/a/$recursiveRef: several schemas"},
        RefusedSchema{R"({"$schema":"https://json-schema.org/draft/2019-09/schema",)"
                      R"("type":"object","properties":{"a":{"type":"object","$recursiveRef":"#",)"
                      R"("unevaluatedProperties":false}}})",
                      "#/properties/a/unevaluatedProperties: "},
        // What has another shape in the draft.
        RefusedSchema{R"({"properties":{"a":{"minimum":2,"exclusiveMinimum":true}}})",
                      "#/properties/a/exclusiveMinimum must be a number"},
        RefusedSchema{R"({"$schema":"http://json-schema.org/draft-06/schema#",)"
                      R"("maximum":2,"exclusiveMaximum":false})",
                      "#/exclusiveMaximum must be a number"},
        RefusedSchema{R"({"$schema":"http://json-schema.org/draft-04/schema#",)"
                      R"("exclusiveMaximum":2})",
                      "#/exclusiveMaximum must be a boolean in draft 4"},
        RefusedSchema{R"({"properties":{"a":{"items":[{"type":"string"}]}}})",
                      "#/properties/a/items must be a schema: in draft 2020-12"},
        RefusedSchema{R"({"$schema":"http://json-schema.org/draft-07/schema#",)"
                      R"("$ref":"#a","definitions":{"a":{"$anchor":"a"}}})",
                      "names no anchor"},
        RefusedSchema{R"({"$schema":"http://json-schema.org/draft-03/schema#"})", "#/$schema: "}));

TEST(JsonSchema, LeavesOutWhatItMayAndSaysWhat) {
  const Json schema =
      Json::parse(R"({"type":"array","uniqueItems":true,"items":{"type":"integer"}})");
  std::vector<std::string> loosened;
  absl::StatusOr<Grammar> made = CompileJsonSchema(schema, {false, &loosened});
  ASSERT_TRUE(made.ok()) << made.status();
  const auto grammar = std::make_shared<const Grammar>(*std::move(made));
  EXPECT_TRUE(InstanceMatches(grammar, "[1,1]"));
  EXPECT_FALSE(InstanceMatches(grammar, "[1,\"a\"]"));
  ASSERT_EQ(loosened.size(), 1u);
  EXPECT_THAT(loosened[0], testing::StartsWith("#/uniqueItems: "));
}

TEST(JsonSchema, NamesOfHostsHaveAtMost253CharactersWhateverStandsBeside) {
  const auto matches = [](const std::string& schema, const std::string& text) {
    absl::StatusOr<Grammar> made = CompileJsonSchema(Json::parse(schema), {});
    EXPECT_TRUE(made.ok()) << schema << ": " << made.status();
    if (!made.ok()) return false;
    return InstanceMatches(std::make_shared<const Grammar>(*std::move(made)), '"' + text + '"');
  };
  const std::string label(63, 'a');
  std::string longest, many;
  for (int i = 0; i < 3; ++i) longest += label + ".";
  longest += std::string(61, 'b');
  for (int i = 0; i < 126; ++i) many += "x.";
  many += "y";
  ASSERT_EQ(longest.size(), 253u);
  ASSERT_EQ(many.size(), 253u);
  const std::string host = R"("type":"string","format":"hostname")";
  const std::vector<std::string> schemas = {
      "{" + host + "}",
      "{" + host + R"(,"maxLength":253,"minLength":1})",
      "{" + host + R"(,"maxLength":1000})",
      "{" + host + R"(,"pattern":"^[a-z.]*$"})",
      "{" + host + R"(,"minLength":7})",
      R"({"type":"string","allOf":[{"format":"hostname"},{"pattern":"."}]})",
      R"({"type":"string","minLength":1,"allOf":[{"allOf":[{"format":"hostname"},{"minLength":2}]}]})",
      R"({"type":"string","minLength":2,"anyOf":[{"format":"hostname"},{"format":"ipv6"}]})",
      R"({"$ref":"#/$defs/h","$defs":{"h":{"allOf":[{"format":"hostname"}],"type":"string"}}})",
      R"({"type":"string","oneOf":[{"format":"hostname"},{"const":"_"}]})",
      R"({"type":"string","format":"hostname","not":{"const":"localhost"}})",
      R"({"anyOf":[{)" + host + R"(},{"type":"integer"}]})",
      R"({"anyOf":[{)" + host + R"(},{"type":"string","format":"ipv6"}]})"};
  for (const std::string& schema : schemas) {
    EXPECT_TRUE(matches(schema, longest)) << schema;
    EXPECT_TRUE(matches(schema, many)) << schema;
    EXPECT_FALSE(matches(schema, longest + "b")) << schema;
    EXPECT_FALSE(matches(schema, "z" + many)) << schema;
    EXPECT_FALSE(matches(schema, many.substr(0, 252))) << schema;  // ends with a dot
    EXPECT_FALSE(matches(schema, label + "a.example")) << schema;
    EXPECT_TRUE(matches(schema, "example.com")) << schema;
  }
  // What stands beside names of hosts is as it is elsewhere.
  const std::string or_long =
      R"({"anyOf":[{)" + host + R"(},{"type":"string","maxLength":10000}]})";
  EXPECT_TRUE(matches(or_long, std::string(9999, '_')));
  EXPECT_FALSE(matches(or_long, std::string(10001, '_')));
  std::string words;
  for (int i = 0; i < 1500; ++i) words += (i > 0 ? ",\"_" : "\"_") + std::to_string(i) + "\"";
  const std::string or_words = R"({"anyOf":[{)" + host + R"(},{"enum":[)" + words + "]}]}";
  EXPECT_TRUE(matches(or_words, "_1499"));
  EXPECT_TRUE(matches(or_words, "a.b"));
  EXPECT_FALSE(matches(or_words, "_1500"));
  // What others ask for besides is theirs alone.
  const std::string narrow =
      R"({"type":"string","minLength":1,"allOf":[{"format":"hostname","pattern":"^a$"}]})";
  EXPECT_TRUE(matches(narrow, "a"));
  EXPECT_FALSE(matches(narrow, "b"));
  EXPECT_TRUE(matches("{" + host + "}", "b"));
  for (const char* schema : {R"({"propertyNames":{"format":"hostname"}})",
                             R"({"type":"string","format":"hostname","minLength":300})"}) {
    const auto refused = CompileJsonSchema(Json::parse(schema), {});
    ASSERT_FALSE(refused.ok()) << schema;
    EXPECT_THAT(std::string(refused.status().message()), ::testing::StartsWith("#"));
  }
  const std::string shorter = "{" + host + R"(,"minLength":4,"maxLength":9})";
  EXPECT_TRUE(matches(shorter, "a.example"));
  EXPECT_TRUE(matches(shorter, "a.de"));
  EXPECT_FALSE(matches(shorter, "ab.example"));
  EXPECT_FALSE(matches(shorter, "a.b"));
  EXPECT_TRUE(matches(R"({"enum":["a.de","-b",7],)" + host + "}", "a.de"));
  EXPECT_FALSE(matches(R"({"enum":["a.de","-b",7],)" + host + "}", "-b"));
}

TEST(JsonSchema, AFormatThatNobodyKnowsIsARemark) {
  const Json schema = Json::parse(
      R"({"type":"object","properties":{"a":{"type":"string","format":"semver","minLength":2},)"
      R"("b":{"oneOf":[{"format":"url"},{"minLength":3}]},"c":{"format":"date"},)"
      R"("d":{"type":"number","format":"double"}},"required":["a"]})");
  std::vector<std::string> loosened;
  absl::StatusOr<Grammar> made = CompileJsonSchema(schema, {true, &loosened});
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_THAT(loosened, testing::UnorderedElementsAre(
                            "#/properties/a/format: \"semver\" is not known and not kept",
                            "#/properties/b/oneOf/0/format: \"url\" is not known and not kept"));
  const auto grammar = std::make_shared<const Grammar>(*std::move(made));
  EXPECT_TRUE(InstanceMatches(grammar, R"({"a":"no version"})"));
  EXPECT_FALSE(InstanceMatches(grammar, R"({"a":"1"})"));
  EXPECT_FALSE(InstanceMatches(grammar, R"({"a":"no version","c":"no date"})"));
  EXPECT_TRUE(CompileJsonSchema(schema, {true, nullptr}).ok());
}

TEST(JsonSchema, LongPathsOfManyPartsAreRefused) {
  // Each part has its path, so that what is short in writing is not in memory.
  Json parts = Json::object();
  for (int i = 0; i < 3000; ++i) parts["k" + std::to_string(i)] = Json::object();
  const Json named = {{"properties", {{std::string(25'000, 'a'), {{"properties", parts}}}}}};
  const Json based = {{"$id", "https://" + std::string(25'000, 'a')}, {"properties", parts}};
  for (const Json& schema : {named, based}) {
    const absl::Status status = CompileJsonSchema(schema, {}).status();
    EXPECT_EQ(status.message(), "#: the paths of the schema's values are too long together");
  }
}

TEST(JsonSchema, HostileSchemasEndSoon) {
  std::vector<Json> schemas;
  schemas.push_back(Json::parse(R"({"type":"string","pattern":"(a|b)*a(a|b){20}"})"));
  schemas.push_back(
      Json::parse(R"({"type":"string","pattern":"((((a{1,99}){1,99}){1,99}){1,99}){1,99}"})"));
  Json choices = Json::array(), all = Json::array();
  for (int i = 0; i < 40; ++i) {
    const std::string name = "k" + std::to_string(i);
    choices.push_back({{"required", {name}}, {"properties", {{name, {{"minimum", i}}}}}});
    all.push_back({{"anyOf", {{{"required", {name}}}, {{"required", {name + "x"}}}}}});
  }
  schemas.push_back({{"oneOf", choices}});
  schemas.push_back({{"allOf", all}});
  Json doubling = {{"$defs", {{"d0", {{"type", "integer"}}}}}};
  for (int i = 1; i < 60; ++i) {
    const Json below = {{"$ref", "#/$defs/d" + std::to_string(i - 1)}};
    doubling["$defs"]["d" + std::to_string(i)] = {{"allOf", {below, below}}};
  }
  doubling["$ref"] = "#/$defs/d59";
  schemas.push_back(doubling);
  Json nested = true;
  for (int i = 0; i < 200; ++i) nested = Json{{"items", nested}};
  schemas.push_back(nested);
  Json wide = Json::object();
  for (int i = 0; i < 3000; ++i) wide["member" + std::to_string(i)] = {{"type", "string"}};
  schemas.push_back({{"properties", wide}, {"minProperties", 1500}});
  for (const Json& schema : schemas) {
    // The compiler counts its work and stops, or says what it has not: nobody's clock judges that.
    const absl::StatusOr<Grammar> made = CompileJsonSchema(schema, {});
    ASSERT_FALSE(made.ok()) << schema.dump().substr(0, 200);
    EXPECT_THAT(std::string(made.status().message()), testing::StartsWith("#"));
  }
}

}  // namespace
}  // namespace penstock::grammar
