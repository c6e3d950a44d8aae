// Adapters that clients load and unload, by vLLM's two routes.
#include <utility>

#include "absl/strings/str_cat.h"
#include "api/openai/adapter_body.h"
#include "api/openai/routes.h"
#include "service/adapter_registry.h"
#include "service/call_error.h"

namespace penstock {
namespace {

absl::Status NoAdapters() {
  return absl::PermissionDeniedError(
      "adapters are not loaded or unloaded by clients of this server (lora.allow_runtime)");
}

void RespondDone(HttpExchange& exchange, const std::string& name, const char* what) {
  HttpResponse response;
  response.content_type = "text/plain; charset=utf-8";
  response.body = absl::StrCat("Success: LoRA adapter '", name, "' ", what, " successfully.");
  exchange.Respond(std::move(response));
}

void LoadAdapterRoute(GenerationService& service, HttpExchange& exchange, AdapterCaller caller) {
  const absl::StatusOr<AdapterBody> body = ReadAdapterBody(exchange.request().body, true);
  if (!body.ok()) return RespondStatus(exchange, body.status());
  if (service.adapters() == nullptr) return RespondStatus(exchange, NoAdapters());
  const absl::Status loaded =
      service.adapters()->Load(body->base, body->name, body->path, body->in_place, caller);
  RecordAct(service, exchange.request(), "adapter.load", body->name, loaded);
  if (!loaded.ok()) return RespondStatus(exchange, loaded);
  RespondDone(exchange, body->name, "added");
}

void UnloadAdapterRoute(GenerationService& service, std::shared_ptr<HttpExchange> exchange,
                        AdapterCaller caller) {
  const absl::StatusOr<AdapterBody> body = ReadAdapterBody(exchange->request().body, false);
  if (!body.ok()) return RespondStatus(*exchange, body.status());
  if (service.adapters() == nullptr) return RespondStatus(*exchange, NoAdapters());
  service.adapters()->Unload(
      body->name,
      // The engine may say so when the service is gone.
      [exchange, name = body->name, tell = service.on_act()](const absl::Status& status) {
        const HttpRequest& request = exchange->request();
        if (tell) {
          tell({"adapter.unload", name, status, request.principal, request.peer_uid, request.peer});
        }
        if (!status.ok()) return RespondStatus(*exchange, status);
        RespondDone(*exchange, name, "removed");
      },
      caller);
}

}  // namespace

void AddAdapterRoutes(Router& router, GenerationService& service, AdapterCaller caller) {
  router.Add("POST", "/v1/load_lora_adapter", RouteAccess::Needs(Permission::kModel),
             OnTextWorker(service, [&service, caller](std::shared_ptr<HttpExchange> exchange) {
               LoadAdapterRoute(service, *exchange, caller);
             }));
  router.Add("POST", "/v1/unload_lora_adapter", RouteAccess::Needs(Permission::kModel),
             OnTextWorker(service, [&service, caller](std::shared_ptr<HttpExchange> exchange) {
               UnloadAdapterRoute(service, std::move(exchange), caller);
             }));
}

}  // namespace penstock
