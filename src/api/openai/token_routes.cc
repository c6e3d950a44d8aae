#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "api/http/json_text.h"
#include "api/openai/call_codec.h"
#include "api/openai/routes.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/call_error.h"
#include "service/json_body.h"

namespace penstock {
namespace {

// The body of /tokenize is that of a completion or of a chat, with its own word for special tokens'
// default.
absl::StatusOr<std::string> Tokenize(GenerationService& service, HttpRequest& request) {
  ASSIGN_OR_RETURN(const WireDocument document, WireDocument::Parse(request.body));
  const WireValue& body = document.root();
  if (!body.is_object()) return absl::InvalidArgumentError("the body must be a JSON object");
  bool with_text = false;
  if (const auto option = body.Find("return_token_strs"); option && !option->is_null()) {
    if (!option->is_boolean())
      return InvalidField("return_token_strs", "return_token_strs must be true or false");
    with_text = option->boolean();
  }
  GenerationCall call;
  const std::optional<WireValue> messages = body.Find("messages");
  const bool chats = messages && !messages->is_null();
  RETURN_IF_ERROR(ReadCall(body, chats ? kChat : kCompletions, call));
  if (call.prompts.size() > 1) return InvalidField("prompt", "prompt must be one string");
  ASSIGN_OR_RETURN(const std::shared_ptr<const ServedModel> model,
                   service.FindToServe(call.model, request.principal));
  if (model->tokenizer == nullptr) return absl::InvalidArgumentError("this model has no tokenizer");
  // An empty text has no tokens, which is an answer here and no error.
  std::vector<TokenId> ids;
  if (call.chat || call.prompts.front().is_ids || !call.prompts.front().text.empty()) {
    ASSIGN_OR_RETURN(ids, service.Tokenize(call, *model));
  }
  std::string out = absl::StrCat("{\"count\":", ids.size(),
                                 ",\"max_model_len\":", model->max_context, ",\"tokens\":[");
  for (size_t i = 0; i < ids.size(); ++i) absl::StrAppend(&out, i == 0 ? "" : ",", ids[i]);
  out += "],\"token_strs\":";
  if (!with_text) return out + "null}";
  out += '[';
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ',';
    AppendJsonString(out, model->tokenizer->Piece(ids[i]));
  }
  return out + "]}";
}

absl::StatusOr<std::string> Detokenize(GenerationService& service, HttpRequest& request) {
  ASSIGN_OR_RETURN(const WireDocument document, WireDocument::Parse(request.body));
  const WireValue& body = document.root();
  if (!body.is_object()) return absl::InvalidArgumentError("the body must be a JSON object");
  std::optional<std::string> name;
  if (const auto model = body.Find("model"); model && !model->is_null()) {
    if (!model->is_string()) return InvalidField("model", "model must be a string");
    name = std::string(model->text());
  }
  const std::optional<WireValue> tokens = body.Find("tokens");
  if (!tokens || !tokens->is_array()) {
    return WrongJsonType("tokens", "an array of token ids",
                         tokens ? tokens->Tree() : nlohmann::ordered_json());
  }
  GenerationCall call;
  RETURN_IF_ERROR(ReadField(*FindCallField("tokens", kDetokenize), *tokens, call));
  ASSIGN_OR_RETURN(const std::shared_ptr<const ServedModel> model,
                   service.FindToServe(name, request.principal));
  ASSIGN_OR_RETURN(const std::string text, service.Detokenize(call.stop_token_ids, *model));
  std::string out = "{\"prompt\":";
  AppendJsonString(out, text);
  return out + "}";
}

using Work = absl::StatusOr<std::string> (*)(GenerationService&, HttpRequest&);

Endpoint Answer(GenerationService& service, Work work) {
  return OnTextWorker(service, [&service, work](std::shared_ptr<HttpExchange> exchange) {
    absl::StatusOr<std::string> body = work(service, exchange->request());
    if (!body.ok()) return RespondStatus(*exchange, body.status());
    HttpResponse response;
    response.body = *std::move(body);
    exchange->Respond(std::move(response));
  });
}

}  // namespace

void AddTokenRoutes(Router& router, GenerationService& service) {
  router.Add("POST", "/tokenize", RouteAccess::Needs(Permission::kInfer),
             Answer(service, Tokenize));
  router.Add("POST", "/detokenize", RouteAccess::Needs(Permission::kInfer),
             Answer(service, Detokenize));
}

}  // namespace penstock
