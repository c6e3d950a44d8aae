#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "api/http/json_text.h"
#include "api/openai/response_items.h"
#include "api/openai/response_store.h"
#include "api/openai/responses_answer.h"
#include "api/openai/responses_codec.h"
#include "api/openai/routes.h"
#include "base/cpu_parts.h"
#include "base/give_back.h"
#include "base/status_macros.h"
#include "service/call_error.h"

namespace penstock {
namespace {

using Responses = std::shared_ptr<ResponseStore>;

absl::Status ReadResponseBody(HttpRequest& request, ResponseStore& store, GenerationCall& call,
                              ResponseRequest& wanted) {
  const CpuPart part(FrontPart::kJson);
  ASSIGN_OR_RETURN(const WireDocument body, WireDocument::Parse(request.body));
  GiveBack(request.body);
  RETURN_IF_ERROR(ReadResponseCall(body.root(), call, wanted));
  TakeRequestId(call);
  if (!wanted.previous_response_id) return JoinConversation(nullptr, call, wanted);
  const auto before = store.Find(request.owner(), *wanted.previous_response_id);
  if (!before) {
    return InvalidField(
        "previous_response_id",
        absl::StrCat("the previous response \"", Shown(*wanted.previous_response_id),
                     "\" is not kept (any more): send the conversation as input"));
  }
  return JoinConversation(before->conversation.get(), call, wanted);
}

void CreateResponse(GenerationService& service, const Responses& store,
                    std::shared_ptr<HttpExchange> exchange) {
  HttpRequest& request = exchange->request();
  GenerationCall call;
  BeginCall(request, call);
  ResponseRequest wanted;
  absl::Status status = ReadResponseBody(request, *store, call, wanted);
  if (status.ok()) {
    auto answer = std::make_shared<ResponsesAnswer>(exchange, std::move(wanted), store);
    status = InResponseNames(StartAnswer(service, call, std::move(answer), *exchange));
    if (status.ok()) return;
  }
  service.RecordRefusal(call, status);
  RespondStatus(*exchange, status);
}

void RespondNotKept(HttpExchange& exchange, const std::string& id) {
  RespondError(exchange, 404, absl::StrCat("the response \"", Shown(id), "\" is not kept"),
               "response_id");
}

void GetInputItems(ResponseStore& store, HttpExchange& exchange) {
  const HttpRequest& request = exchange.request();
  const auto found = store.Find(request.owner(), request.path_argument);
  if (!found) return RespondNotKept(exchange, request.path_argument);
  const absl::StatusOr<nlohmann::ordered_json> page =
      PageOfItems(*found->items, request.path_argument, request.query);
  if (!page.ok()) return RespondStatus(exchange, page.status());
  HttpResponse response;
  response.body = page->dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  exchange.Respond(std::move(response));
}

void GetResponse(ResponseStore& store, HttpExchange& exchange) {
  const HttpRequest& request = exchange.request();
  auto found = store.Find(request.owner(), request.path_argument);
  if (!found) return RespondNotKept(exchange, request.path_argument);
  HttpResponse response;
  response.body = std::move(found->body);
  exchange.Respond(std::move(response));
}

void DeleteResponse(ResponseStore& store, HttpExchange& exchange) {
  const HttpRequest& request = exchange.request();
  if (!store.Erase(request.owner(), request.path_argument))
    return RespondNotKept(exchange, request.path_argument);
  HttpResponse response;
  response.body = "{\"id\":";
  AppendJsonString(response.body, request.path_argument);
  response.body += ",\"object\":\"response\",\"deleted\":true}";
  exchange.Respond(std::move(response));
}

}  // namespace

void AddResponseRoutes(Router& router, GenerationService& service, const Answers& answers) {
  const auto store = std::make_shared<ResponseStore>(&service.config(), &service.clock());
  const auto create = [&service, store](std::shared_ptr<HttpExchange> exchange) {
    CreateResponse(service, store, std::move(exchange));
  };
  router.Add("POST", "/v1/responses", RouteAccess::Needs(Permission::kInfer),
             OnTextWorker(service, IdempotencyStore::Wrap(answers, create)));
  const auto items = [store](std::shared_ptr<HttpExchange> exchange) {
    GetInputItems(*store, *exchange);
  };
  router.Add("GET", "/v1/responses/{id}/input_items", RouteAccess::Needs(Permission::kInfer),
             OnTextWorker(service, items));
  const auto get = [store](std::shared_ptr<HttpExchange> exchange) {
    GetResponse(*store, *exchange);
  };
  router.Add("GET", "/v1/responses/{id}", RouteAccess::Needs(Permission::kInfer),
             OnTextWorker(service, get));
  const auto erase = [store](std::shared_ptr<HttpExchange> exchange) {
    DeleteResponse(*store, *exchange);
  };
  router.Add("DELETE", "/v1/responses/{id}", RouteAccess::Needs(Permission::kInfer),
             OnTextWorker(service, erase));
}

}  // namespace penstock
