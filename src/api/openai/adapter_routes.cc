// Adapters that clients load and unload, by vLLM's two routes.
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "api/openai/routes.h"
#include "base/status_macros.h"
#include "service/adapter_registry.h"
#include "service/call_error.h"
#include "service/json_body.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

struct AdapterBody {
  std::string name, path;
  std::optional<std::string> base;
  bool in_place = false;
};

absl::Status ReadText(const Json& body, const char* field, bool required,
                      std::optional<std::string>& out) {
  const auto it = body.find(field);
  if (it == body.end() || it->is_null()) {
    if (!required) return absl::OkStatus();
    return InvalidField(field, absl::StrCat(field, " is missing"));
  }
  if (!it->is_string()) return WithField(WrongJsonType(field, "a string", *it), field);
  out = it->get<std::string>();
  return absl::OkStatus();
}

absl::StatusOr<AdapterBody> ReadAdapterBody(const std::string& text, bool loads) {
  ASSIGN_OR_RETURN(const Json body, ParseWireJson(text));
  if (!body.is_object()) return absl::InvalidArgumentError("the body must be a JSON object");
  AdapterBody out;
  std::optional<std::string> name, path;
  RETURN_IF_ERROR(ReadText(body, "lora_name", true, name));
  RETURN_IF_ERROR(ReadText(body, "lora_path", loads, path));
  RETURN_IF_ERROR(ReadText(body, "base_model_name", false, out.base));
  if (const auto it = body.find("load_inplace"); it != body.end() && !it->is_null()) {
    if (!it->is_boolean())
      return WithField(WrongJsonType("load_inplace", "true or false", *it), "load_inplace");
    out.in_place = it->get<bool>();
  }
  out.name = *std::move(name);
  out.path = path.value_or("");
  return out;
}

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
