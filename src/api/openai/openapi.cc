#include "api/openai/openapi.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "api/openai/openapi_answers.h"
#include "base/strings.h"
#include "service/call_fields.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;
using Call = GenerationCall;

/// A route whose body is made of the table's fields.
struct BodyRoute {
  const char* path;
  Surface surface;
  const char* summary;
  std::vector<std::string_view> required;
  const char* answer;  // of OpenApiAnswers; null: no JSON
  bool streams = false;
  const char* error = "Error";
};

const std::vector<BodyRoute>& BodyRoutes() {
  static const std::vector<BodyRoute> routes = {
      {"/v1/completions", kCompletions, "Continue a text", {"prompt"}, "Completion", true},
      {"/v1/chat/completions", kChat, "Answer a conversation", {"messages"}, "Chat", true},
      {"/v1/responses", kResponses, "Answer a conversation that may be kept", {}, "Response", true},
      {"/v1/messages",
       kMessages,
       "Answer a conversation (Anthropic)",
       {"messages", "max_tokens"},
       "Message",
       true,
       "MessagesError"},
      {"/v1/messages/count_tokens",
       kMessages,
       "Count what a conversation is in tokens (Anthropic)",
       {"messages"},
       "CountedTokens",
       false,
       "MessagesError"},
      {"/v1/embeddings", kEmbeddings, "A vector for each input", {"input"}, "Embeddings"},
      {"/v1/rerank", kRerank, "Order documents by a query", {"query", "documents"}, "Rerank"},
      {"/tokenize", kTokenize, "The token ids of a prompt or a conversation", {}, "Tokens"},
      {"/detokenize", kDetokenize, "The text of token ids", {"tokens"}, "Prompt"},
      {"/v1/load_lora_adapter",
       kLoadAdapter,
       "Serve an adapter of lora.dir",
       {"lora_name", "lora_path"},
       nullptr},
      {"/v1/unload_lora_adapter",
       kUnloadAdapter,
       "Serve an adapter no longer",
       {"lora_name"},
       nullptr},
  };
  return routes;
}

Json Ref(std::string_view name) {
  return {{"$ref", absl::StrCat("#/components/schemas/", ToAbsl(name))}};
}

/// What JSON Schema says of a row's values.
struct SchemaOf {
  const CallField& f;

  // Whole bounds are written whole.
  static Json Bound(double value) {
    const auto whole = static_cast<int64_t>(value);
    return static_cast<double>(whole) == value ? Json(whole) : Json(value);
  }
  Json Number(const char* type) const {
    Json schema = {{"type", type}};
    if (f.min == f.max) return schema;
    schema[f.above_min ? "exclusiveMinimum" : "minimum"] = Bound(f.min);
    if (f.max < std::numeric_limits<int32_t>::max()) schema["maximum"] = Bound(f.max);
    return schema;
  }
  static Json Ids() {
    return {{"type", "array"}, {"items", {{"type", "integer"}, {"minimum", 0}}}};
  }
  Json operator()(std::optional<double> Call::*) const { return Number("number"); }
  Json operator()(std::optional<int64_t> Call::*) const { return Number("integer"); }
  Json operator()(std::optional<bool> Call::*) const { return {{"type", "boolean"}}; }
  Json operator()(std::optional<std::string> Call::*) const { return {{"type", "string"}}; }
  Json operator()(std::vector<std::string> Call::*) const {
    return Json::parse(
        R"({"anyOf":[{"type":"string"},{"type":"array","items":{"type":"string"}}]})");
  }
  Json operator()(std::vector<TokenId> Call::*) const { return Ids(); }
  Json operator()(std::vector<std::pair<TokenId, double>> Call::*) const {
    return {{"type", "object"}, {"additionalProperties", Number("number")}};
  }
  Json operator()(OwnForm own) const { return Json::parse(own.schema); }
};

Json BodySchema(const BodyRoute& route) {
  Json properties = Json::object();
  for (const CallField& field : CallFields()) {
    if ((field.surfaces & route.surface) == 0) continue;
    Json schema = std::visit(SchemaOf{field}, field.member);
    const bool required =
        std::find(route.required.begin(), route.required.end(), field.name) != route.required.end();
    // null is the default, as a field left out.
    if (!required) schema = {{"anyOf", Json::array({std::move(schema), {{"type", "null"}}})}};
    schema["description"] = field.doc;
    properties[std::string(field.name)] = std::move(schema);
  }
  Json body = {{"type", "object"}, {"properties", std::move(properties)}};
  for (const std::string_view name : route.required) body["required"].push_back(name);
  return body;
}

Json JsonContent(std::string_view schema) {
  return {{"application/json", {{"schema", Ref(schema)}}}};
}

Json ErrorAnswer(const char* schema) {
  return {{"description", "Refused or failed; the message says why"},
          {"content", JsonContent(schema)}};
}

Json PostOperation(const BodyRoute& route) {
  Json answer = {{"description", "The answer"}};
  if (route.answer != nullptr) answer["content"] = JsonContent(route.answer);
  if (route.streams) answer["content"]["text/event-stream"] = {{"schema", {{"type", "string"}}}};
  return {
      {"summary", route.summary},
      {"requestBody",
       {{"required", true}, {"content", {{"application/json", {{"schema", BodySchema(route)}}}}}}},
      {"responses", {{"200", std::move(answer)}, {"default", ErrorAnswer(route.error)}}}};
}

Json PlainOperation(const OpenApiRoute& route) {
  Json operation = {{"summary", route.summary}};
  if (const std::string_view path = route.path; path.find('{') != path.npos) {
    const size_t begin = path.find('{') + 1;
    operation["parameters"] = Json::array({{{"name", path.substr(begin, path.find('}') - begin)},
                                            {"in", "path"},
                                            {"required", true},
                                            {"schema", {{"type", "string"}}}}});
  }
  if (route.query != nullptr) {
    for (Json& one : Json::parse(route.query)) operation["parameters"].push_back(std::move(one));
  }
  Json answer = {{"description", "The answer"}};
  if (route.answer != nullptr) answer["content"] = JsonContent(route.answer);
  operation["responses"] = {{"200", std::move(answer)}, {"default", ErrorAnswer("Error")}};
  return operation;
}

}  // namespace

std::string OpenApiDocument(std::string_view version) {
  Json paths = Json::object();
  for (const BodyRoute& route : BodyRoutes()) paths[route.path]["post"] = PostOperation(route);
  for (const OpenApiRoute& route : OpenApiRoutes())
    paths[route.path][route.method] = PlainOperation(route);
  const Json document = {
      {"openapi", "3.1.0"},
      {"info",
       {{"title", "Penstock"},
        {"description", "An LLM inference server: the OpenAI API, the Anthropic API, and more"},
        {"version", version}}},
      {"paths", std::move(paths)},
      {"components",
       {{"schemas", OpenApiAnswers()},
        {"securitySchemes",
         {{"bearer", {{"type", "http"}, {"scheme", "bearer"}}},
          {"apiKey", {{"type", "apiKey"}, {"in", "header"}, {"name", "X-Api-Key"}}}}}}},
      {"security",
       Json::array({{{"bearer", Json::array()}}, {{"apiKey", Json::array()}}, Json::object()})}};
  return document.dump();
}

}  // namespace penstock
