#include <utility>

#include "absl/strings/str_cat.h"
#include "api/anthropic/messages_answer.h"
#include "api/anthropic/messages_codec.h"
#include "api/anthropic/routes.h"
#include "base/cpu_parts.h"
#include "base/give_back.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

absl::Status ReadMessagesBody(HttpRequest& request, bool counting, GenerationCall& call) {
  const CpuPart part(FrontPart::kJson);
  ASSIGN_OR_RETURN(const WireDocument body, WireDocument::Parse(request.body));
  GiveBack(request.body);
  RETURN_IF_ERROR(ReadMessagesCall(body.root(), counting, call));
  TakeRequestId(call);
  return absl::OkStatus();
}

void Messages(GenerationService& service, std::shared_ptr<HttpExchange> exchange) {
  HttpRequest& request = exchange->request();
  GenerationCall call;
  BeginCall(request, call);
  absl::Status status = ReadMessagesBody(request, false, call);
  if (status.ok()) {
    auto answer = std::make_shared<MessagesAnswer>(exchange, call.stream.value_or(false));
    status = InMessagesNames(StartAnswer(service, call, std::move(answer), *exchange));
    if (status.ok()) return;
  }
  service.RecordRefusal(call, status);
  RespondStatus(*exchange, status);
}

absl::StatusOr<std::string> CountTokens(GenerationService& service, HttpRequest& request) {
  GenerationCall call;
  RETURN_IF_ERROR(ReadMessagesBody(request, true, call));
  ASSIGN_OR_RETURN(const std::shared_ptr<const ServedModel> model,
                   service.FindToServe(call.model, request.principal));
  const absl::StatusOr<std::vector<TokenId>> ids = service.Tokenize(call, *model);
  if (!ids.ok()) return InMessagesNames(ids.status());
  return absl::StrCat("{\"input_tokens\":", ids->size(), "}");
}

}  // namespace

void AddAnthropicRoutes(Router& router, GenerationService& service, const Answers& answers) {
  const auto messages = [&service](std::shared_ptr<HttpExchange> exchange) {
    Messages(service, std::move(exchange));
  };
  router.Add("POST", "/v1/messages", RouteAccess::Needs(Permission::kInfer),
             OnTextWorker(service, IdempotencyStore::Wrap(answers, messages)), MessagesErrorForm);
  const auto count = [&service](std::shared_ptr<HttpExchange> exchange) {
    const absl::StatusOr<std::string> body = CountTokens(service, exchange->request());
    if (!body.ok()) return RespondStatus(*exchange, body.status());
    HttpResponse response;
    response.headers.emplace_back("request-id", exchange->request().request_id);
    response.body = *body;
    exchange->Respond(std::move(response));
  };
  router.Add("POST", "/v1/messages/count_tokens", RouteAccess::Needs(Permission::kInfer),
             OnTextWorker(service, count), MessagesErrorForm);
}

}  // namespace penstock
