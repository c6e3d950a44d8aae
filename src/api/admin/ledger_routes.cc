#include <utility>

#include "api/admin/routes.h"
#include "api/openai/routes.h"
#include "ledger/usage_store.h"

namespace penstock {
namespace {

void RespondWithUsage(HttpExchange& exchange, const LedgerParts& parts) {
  absl::StatusOr<std::string> report =
      UsageStore::Report(parts.state_dir, exchange.request().path_argument, parts.usage.get());
  if (!report.ok())
    return RespondStatus(exchange, absl::UnavailableError(report.status().message()));
  HttpResponse response;
  response.body = *std::move(report);
  exchange.Respond(std::move(response));
}

}  // namespace

void AddLedgerRoutes(Router& router, GenerationService& service, const LedgerParts& parts) {
  for (const char* path : {"/admin/v1/usage", "/admin/v1/usage/{tenant}"}) {
    router.Add("GET", path, RouteAccess::Needs(Permission::kKeys),
               OnTextWorker(service, [parts](std::shared_ptr<HttpExchange> exchange) {
                 RespondWithUsage(*exchange, parts);
               }));
  }
}

}  // namespace penstock
