#include "api/openai/openapi_answers.h"

namespace penstock {
namespace {

constexpr OpenApiRoute kOpenApiRoutes[] = {
    {"/v1/models", "get", "The models that are served", "Models"},
    {"/v1/models/{model}", "get", "One of them", "Model"},
    {"/v1/responses/{response_id}", "get", "A kept response", "Response"},
    {"/v1/responses/{response_id}/input_items", "get", "The items of its input", "Items",
     R"([{"name":"limit","in":"query","schema":{"type":"integer","minimum":1,"maximum":100,)"
     R"("default":20}},{"name":"order","in":"query","schema":{"enum":["asc","desc"],)"
     R"("default":"desc"}},{"name":"after","in":"query","description":"the id of an item",)"
     R"("schema":{"type":"string"}},{"name":"include","in":"query",)"
     R"("schema":{"type":"array","items":{"type":"string"}}}])"},
    {"/v1/responses/{response_id}", "delete", "Forget a kept response", "Deleted"},
    {"/health", "get", "Whether the process lives", "Status"},
    {"/ready", "get", "Whether a model can serve", "Status"},
    {"/version", "get", "The version of this server", "Version"},
    {"/metrics", "get", "Prometheus text", nullptr},
    {"/metrics/lb", "get", "Prometheus text of what balancers weigh", nullptr},
    {"/openapi.json", "get", "This document", "Document"},
    {"/errors", "get", "The last requests that failed, the newest first", "Errors"},
    {"/", "get", "A page to try the models and to watch the server", nullptr},
};

// One schema a line, by name.
constexpr const char* kAnswers = R"({
"Document":{"type":"object","required":["openapi","paths"]},
"Status":{"type":"object","properties":{"status":{"type":"string"}},"required":["status"]},
"Version":{"type":"object","properties":{"version":{"type":"string"}},"required":["version"]},
"Errors":{"type":"object","properties":{"object":{"const":"list"},"data":{"type":"array",
 "items":{"type":"object","properties":{"time":{"type":"integer"},"code":{"type":"integer"},
 "request_id":{"type":"string"},"model":{"type":"string"},"operation":{"type":"string"},
 "message":{"type":"string"}},"required":["time","code","request_id","model","message"]}}},
 "required":["object","data"]},
"Deleted":{"type":"object","properties":{"id":{"type":"string"},"object":{"const":"response"},
 "deleted":{"const":true}},"required":["id","object","deleted"]},
"Items":{"type":"object","properties":{"object":{"const":"list"},
 "data":{"type":"array","items":{"type":"object","required":["id","type"]}},
 "first_id":{"type":["string","null"]},"last_id":{"type":["string","null"]},
 "has_more":{"type":"boolean"}},"required":["object","data","has_more","first_id","last_id"]},
"Model":{"type":"object","properties":{"id":{"type":"string"},"object":{"const":"model"},
 "created":{"type":"integer"},"owned_by":{"type":"string"},
 "parent":{"type":["string","null"]},"max_model_len":{"type":"integer"}},
 "required":["id","object","created","owned_by"]},
"Models":{"type":"object","properties":{"object":{"const":"list"},
 "data":{"type":"array","items":{"$ref":"#/components/schemas/Model"}}},"required":["object","data"]},
"Tokens":{"type":"object","properties":{"count":{"type":"integer","minimum":0},
 "max_model_len":{"type":"integer"},"tokens":{"type":"array","items":{"type":"integer"}}},
 "required":["count","max_model_len","tokens"]},
"Prompt":{"type":"object","properties":{"prompt":{"type":"string"}},"required":["prompt"]},
"Usage":{"type":"object","properties":{"prompt_tokens":{"type":"integer"},
 "completion_tokens":{"type":"integer"},"total_tokens":{"type":"integer"}},
 "required":["prompt_tokens","total_tokens"]},
"FinishReason":{"enum":["stop","length","tool_calls","content_filter",null]},
"Completion":{"type":"object","properties":{"id":{"type":"string"},
 "object":{"const":"text_completion"},"created":{"type":"integer"},"model":{"type":"string"},
 "system_fingerprint":{"type":"string"},
 "choices":{"type":"array","items":{"type":"object","properties":{"index":{"type":"integer"},
 "text":{"type":"string"},"finish_reason":{"$ref":"#/components/schemas/FinishReason"}},
 "required":["index","text","finish_reason"]}},"usage":{"$ref":"#/components/schemas/Usage"}},
 "required":["id","object","created","model","choices","usage"]},
"Chat":{"type":"object","properties":{"id":{"type":"string"},
 "object":{"const":"chat.completion"},"created":{"type":"integer"},"model":{"type":"string"},
 "system_fingerprint":{"type":"string"},
 "choices":{"type":"array","items":{"type":"object","properties":{"index":{"type":"integer"},
 "message":{"type":"object","properties":{"role":{"const":"assistant"},
 "content":{"type":["string","null"]},"reasoning_content":{"type":"string"},
 "tool_calls":{"type":"array","items":{"type":"object","properties":{"id":{"type":"string"},
 "type":{"const":"function"},"function":{"type":"object","properties":{"name":{"type":"string"},
 "arguments":{"type":"string"}},"required":["name","arguments"]}},
 "required":["id","type","function"]}}},"required":["role","content"]},
 "finish_reason":{"$ref":"#/components/schemas/FinishReason"}},
 "required":["index","message","finish_reason"]}},"usage":{"$ref":"#/components/schemas/Usage"}},
 "required":["id","object","created","model","choices","usage"]},
"Embeddings":{"type":"object","properties":{"object":{"const":"list"},"model":{"type":"string"},
 "data":{"type":"array","items":{"type":"object","required":["index","embedding"]}},
 "usage":{"$ref":"#/components/schemas/Usage"}},"required":["object","data","model","usage"]},
"Rerank":{"type":"object","properties":{"model":{"type":"string"},
 "results":{"type":"array","items":{"type":"object","properties":{"index":{"type":"integer"},
 "relevance_score":{"type":"number"}},"required":["index","relevance_score"]}}},
 "required":["results"]},
"Response":{"type":"object","properties":{"id":{"type":"string"},"object":{"const":"response"},
 "created_at":{"type":"integer"},"model":{"type":"string"},
 "status":{"enum":["in_progress","completed","incomplete","failed"]},
 "output":{"type":"array","items":{"type":"object","required":["id","type"]}},
 "usage":{"type":["object","null"]}},
 "required":["id","object","created_at","model","status","output"]},
"Message":{"type":"object","properties":{"id":{"type":"string"},"type":{"const":"message"},
 "role":{"const":"assistant"},"model":{"type":"string"},
 "content":{"type":"array","items":{"type":"object","properties":{
 "type":{"enum":["thinking","text","tool_use"]},"text":{"type":"string"}},"required":["type"]}},
 "stop_reason":{"enum":["end_turn","max_tokens","stop_sequence","tool_use"]},
 "stop_sequence":{"type":["string","null"]},"usage":{"type":"object",
 "properties":{"input_tokens":{"type":"integer"},"output_tokens":{"type":"integer"}},
 "required":["input_tokens","output_tokens"]}},
 "required":["id","type","role","model","content","stop_reason","stop_sequence","usage"]},
"CountedTokens":{"type":"object","properties":{"input_tokens":{"type":"integer"}},
 "required":["input_tokens"]},
"Error":{"type":"object","properties":{"error":{"type":"object","properties":{
 "message":{"type":"string"},"type":{"type":"string"},"param":{"type":["string","null"]},
 "code":{"type":"integer"}},"required":["message","type","param","code"]}},"required":["error"]},
"MessagesError":{"type":"object","properties":{"type":{"const":"error"},"error":{"type":"object",
 "properties":{"type":{"type":"string"},"message":{"type":"string"},
 "param":{"type":["string","null"]}},"required":["type","message"]},
 "request_id":{"type":"string"}},"required":["type","error"]}
})";

}  // namespace

absl::Span<const OpenApiRoute> OpenApiRoutes() { return kOpenApiRoutes; }

nlohmann::ordered_json OpenApiAnswers() { return nlohmann::ordered_json::parse(kAnswers); }

}  // namespace penstock
