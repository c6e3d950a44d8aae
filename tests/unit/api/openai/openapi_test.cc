// /openapi.json is the table of request fields, and its routes are those that are served.
#include "api/openai/openapi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_replace.h"
#include "fakes/http_talk.h"
#include "service/call_fields.h"

namespace penstock {
namespace {

using nlohmann::json;

const std::map<std::string, Surface> kBodyPaths = {{"/v1/completions", kCompletions},
                                                   {"/v1/chat/completions", kChat},
                                                   {"/v1/responses", kResponses},
                                                   {"/v1/messages", kMessages},
                                                   {"/v1/embeddings", kEmbeddings},
                                                   {"/v1/rerank", kRerank},
                                                   {"/v1/messages/count_tokens", kMessages},
                                                   {"/tokenize", kTokenize},
                                                   {"/detokenize", kDetokenize},
                                                   {"/v1/load_lora_adapter", kLoadAdapter},
                                                   {"/v1/unload_lora_adapter", kUnloadAdapter}};

json BodySchemaOf(const json& document, const std::string& path) {
  return document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"];
}

/// The alternatives of a property: itself, or those of its anyOf.
std::vector<json> Alternatives(const json& property) {
  if (!property.contains("anyOf")) return {property};
  return property["anyOf"].get<std::vector<json>>();
}

/// The first alternative that is not null.
json Main(const json& property) { return Alternatives(property).front(); }

TEST(OpenApi, HasTheFieldsOfTheTableAndNoOthers) {
  const json document = json::parse(OpenApiDocument("1.2.3"));
  EXPECT_EQ(document["openapi"], "3.1.0");
  EXPECT_EQ(document["info"]["version"], "1.2.3");
  for (const auto& [path, surface] : kBodyPaths) {
    const json schema = BodySchemaOf(document, path);
    std::set<std::string> in_table, in_document;
    for (const auto& [name, property] : schema["properties"].items()) in_document.insert(name);
    for (const CallField& field : CallFields()) {
      if ((field.surfaces & surface) == 0) continue;
      const std::string name(field.name);
      in_table.insert(name);
      ASSERT_TRUE(schema["properties"].contains(name)) << path << " " << name;
      EXPECT_EQ(schema["properties"][name]["description"], field.doc);
    }
    EXPECT_EQ(in_document, in_table) << path;
  }
}

TEST(OpenApi, HasTheTypesAndRangesOfTheTable) {
  const json document = json::parse(OpenApiDocument("1"));
  for (const auto& [path, surface] : kBodyPaths) {
    const json properties = BodySchemaOf(document, path)["properties"];
    for (const CallField& field : CallFields()) {
      if ((field.surfaces & surface) == 0) continue;
      const json main = Main(properties[std::string(field.name)]);
      const size_t kind = field.member.index();
      if (kind > 1) continue;
      EXPECT_EQ(main["type"], kind == 0 ? "number" : "integer") << field.name;
      if (field.min == field.max) {
        EXPECT_FALSE(main.contains("minimum") || main.contains("maximum")) << field.name;
        continue;
      }
      EXPECT_EQ(main[field.above_min ? "exclusiveMinimum" : "minimum"], field.min) << field.name;
      if (field.max < 2147483647.0) {
        EXPECT_EQ(main["maximum"], field.max) << field.name;
      }
    }
  }
  const json bias = Main(BodySchemaOf(document, "/v1/completions")["properties"]["logit_bias"]);
  EXPECT_EQ(bias, json::parse(R"({"type":"object","additionalProperties":)"
                              R"({"type":"number","minimum":-100,"maximum":100}})"));
}

TEST(OpenApi, LetsFieldsBeNullWhereTheyMayBeLeftOut) {
  const json document = json::parse(OpenApiDocument("1"));
  for (const auto& [path, surface] : kBodyPaths) {
    const json schema = BodySchemaOf(document, path);
    const auto required = schema.value("required", std::vector<std::string>());
    for (const auto& [name, property] : schema["properties"].items()) {
      const std::vector<json> all = Alternatives(property);
      const bool nullable =
          std::find(all.begin(), all.end(), json::parse(R"({"type":"null"})")) != all.end();
      const bool is_required = std::find(required.begin(), required.end(), name) != required.end();
      EXPECT_NE(nullable, is_required) << path << " " << name;
    }
  }
}

void CollectRefs(const json& value, std::set<std::string>& refs) {
  for (const auto& [key, item] : value.items()) {
    if (key == "$ref") refs.insert(item.get<std::string>());
    if (item.is_structured()) CollectRefs(item, refs);
  }
}

TEST(OpenApi, PointsOnlyToWhatIsThere) {
  const json document = json::parse(OpenApiDocument("1"));
  std::set<std::string> refs;
  CollectRefs(document, refs);
  EXPECT_GT(refs.size(), 10);
  for (const std::string& ref : refs)
    EXPECT_TRUE(document.contains(json::json_pointer(ref.substr(1)))) << ref;
}

TEST(OpenApi, IsServedAndListsOnlyRoutesThatAre) {
  HttpTalk talk;
  HttpClient client(talk.port());
  const ClientResponse served = client.Get("/openapi.json");
  ASSERT_EQ(served.status, 200);
  const json document = json::parse(served.body);
  EXPECT_EQ(document, json::parse(OpenApiDocument("1.2.3")));
  for (const auto& [path, methods] : document["paths"].items()) {
    if (path.starts_with("/v1/messages")) continue;  // of the other API's routes
    const std::string real =
        absl::StrReplaceAll(path, {{"{model}", "demo"}, {"{response_id}", "resp_none"}});
    for (const auto& [method, operation] : methods.items()) {
      const ClientResponse answer =
          method == "get"
              ? client.Get(real)
              : (method == "post" ? client.Post(real, "[]") : ClientResponse{404, {}, {}});
      EXPECT_NE(answer.status, 405) << method << " " << path;
      if (answer.status == 404) {
        EXPECT_TRUE(path.starts_with("/v1/responses/{response_id}")) << path;
      }
      if (method == "post") {
        EXPECT_EQ(answer.status, 400) << path;
      }
    }
  }
}

}  // namespace
}  // namespace penstock
