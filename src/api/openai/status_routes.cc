#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "api/http/json_text.h"
#include "api/openai/balancer_page.h"
#include "api/openai/metrics_page.h"
#include "api/openai/openapi.h"
#include "api/openai/routes.h"
#include "base/strings.h"
#include "metrics/catalogue.h"
#include "service/adapter_registry.h"
#include "service/recent_errors.h"

namespace penstock {
namespace {

void RespondJson(HttpExchange& exchange, std::string body) {
  HttpResponse response;
  response.body = std::move(body);
  exchange.Respond(std::move(response));
}

void AppendModel(std::string& out, const ServedModel& model, std::string_view name) {
  out += "{\"id\":";
  AppendJsonString(out, name);
  absl::StrAppend(&out, ",\"object\":\"model\",\"created\":", model.created,
                  ",\"owned_by\":\"penstock\",\"root\":");
  AppendJsonString(out, model.name);
  out += ",\"parent\":";
  AppendJsonStringOrNull(out, model.parent);
  absl::StrAppend(&out, ",\"max_model_len\":", model.max_context, ",\"permission\":[]}");
}

void ListModels(const GenerationService& service, HttpExchange& exchange) {
  std::string out = "{\"object\":\"list\",\"data\":[";
  bool first = true;
  for (const auto& model : service.models().List()) {
    std::vector<std::string> names = {model->name};
    names.insert(names.end(), model->aliases.begin(), model->aliases.end());
    for (const std::string& name : names) {
      if (!service.MayUse(exchange.request().principal, *model, name)) continue;
      if (!std::exchange(first, false)) out += ',';
      AppendModel(out, *model, name);
    }
  }
  RespondJson(exchange, out + "]}");
}

void GetModel(const GenerationService& service, HttpExchange& exchange) {
  const std::string& name = exchange.request().path_argument;
  const auto model = service.FindModel(name, exchange.request().principal);
  if (!model.ok()) return RespondStatus(exchange, model.status());
  std::string out;
  AppendModel(out, **model, name);
  RespondJson(exchange, std::move(out));
}

// The process lives as long as one of its engines does.
void Health(const GenerationService& service, HttpExchange& exchange) {
  const auto models = service.models().List();
  bool healthy = models.empty();
  for (const auto& model : models) healthy |= model->engine->load().healthy;
  if (!healthy || service.phase() == ServingPhase::kFailed)
    return RespondError(exchange, 503, "the engine has failed");
  RespondJson(exchange, "{\"status\":\"ok\"}");
}

void Ready(const GenerationService& service, HttpExchange& exchange) {
  const absl::Status ready = service.Ready();
  if (!ready.ok()) return RespondStatus(exchange, ready);
  RespondJson(exchange, "{\"status\":\"ready\"}");
}

void Balancer(const GenerationService& service, HttpExchange& exchange) {
  HttpResponse response;
  response.content_type = kPrometheusText;
  response.body = BalancerPage(service);
  exchange.Respond(std::move(response));
}

// Messages may name what belongs to a tenant, so each sees its own; operators see all.
void Errors(const GenerationService& service, HttpExchange& exchange) {
  const PrincipalPtr& caller = exchange.request().principal;
  std::string tenant = caller == nullptr ? kAnonymousTenant : caller->tenant;
  if (caller != nullptr && caller->may(Permission::kOperate)) tenant.clear();  // all
  std::string out = "{\"object\":\"list\",\"data\":[";
  bool first = true;
  if (service.errors() != nullptr) {
    for (const RecentError& error : service.errors()->List(tenant)) {
      if (!std::exchange(first, false)) out += ',';
      absl::StrAppend(&out, "{\"time\":", absl::ToUnixMillis(error.when), ",\"code\":", error.code);
      for (const auto& [name, text] : {std::pair("request_id", &error.request_id),
                                       {"model", &error.model},
                                       {"operation", &error.operation},
                                       {"message", &error.message}}) {
        absl::StrAppend(&out, ",\"", name, "\":");
        AppendJsonString(out, *text);
      }
      out += '}';
    }
  }
  RespondJson(exchange, out + "]}");
}

std::string Metrics(GenerationService& service) {
  Catalogue* const catalogue = service.catalogue();
  if (catalogue == nullptr) return "";
  if (service.adapters() != nullptr) service.adapters()->Export(*catalogue, absl::Now());
  catalogue->SetServing(service.Ready().ok(), service.phase() != ServingPhase::kServing);
  return catalogue->Text();
}

}  // namespace

void AddStatusRoutes(Router& router, GenerationService& service) {
  const auto inline_route = [&](const char* path, RouteAccess access,
                                void (*answer)(const GenerationService&, HttpExchange&)) {
    router.Add("GET", path, access,
               [&service, answer](std::shared_ptr<HttpExchange> e) { answer(service, *e); });
  };
  inline_route("/v1/models", RouteAccess::Needs(Permission::kInfer), ListModels);
  inline_route("/v1/models/{id}", RouteAccess::Needs(Permission::kInfer), GetModel);
  inline_route("/health", RouteAccess::Open(), Health);
  inline_route("/ready", RouteAccess::Open(), Ready);
  inline_route("/metrics/lb", RouteAccess::NeedsUnlessLocal(Permission::kReadMetrics), Balancer);
  inline_route("/errors", RouteAccess::Needs(Permission::kReadMetrics), Errors);
  router.Add("GET", "/version", RouteAccess::NeedsUnlessLocal(Permission::kReadMetrics),
             [&service](std::shared_ptr<HttpExchange> exchange) {
               std::string out = "{\"version\":";
               AppendJsonString(out, service.version());
               RespondJson(*exchange, out + "}");
             });
  auto document = std::make_shared<const std::string>(OpenApiDocument(service.version()));
  router.Add("GET", "/openapi.json", RouteAccess::NeedsUnlessLocal(Permission::kInfer),
             OnTextWorker(service, [document](std::shared_ptr<HttpExchange> exchange) {
               RespondJson(*exchange, *document);
             }));
  const auto page =
      std::make_shared<MetricsPage>([&service] { return Metrics(service); }, &service.clock());
  router.Add("GET", "/metrics", RouteAccess::NeedsUnlessLocal(Permission::kReadMetrics),
             OnTextWorker(service, [page](std::shared_ptr<HttpExchange> exchange) {
               page->Respond(*exchange);
             }));
}

}  // namespace penstock
