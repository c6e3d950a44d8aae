#include "server/boot_routes.h"

#include <utility>

#include "api/openai/metrics_page.h"
#include "base/clock.h"

namespace penstock {

void AddBootRoutes(Router& router, const BootProgress& progress, Catalogue* catalogue) {
  for (const char* path : {"/health", "/ready"}) {
    router.Add("GET", path, RouteAccess::Open(),
               [&progress](std::shared_ptr<HttpExchange> exchange) {
                 HttpResponse response;
                 response.status = 503;
                 response.headers.emplace_back("Retry-After", "1");
                 response.body = progress.Json();
                 exchange->Respond(std::move(response));
               });
  }
  const auto page = std::make_shared<MetricsPage>(
      [catalogue] {
        catalogue->SetServing(/*ready=*/false, /*draining=*/false);
        return catalogue->Text();
      },
      &SystemClock::Get());
  router.Add("GET", "/metrics", RouteAccess::NeedsUnlessLocal(Permission::kReadMetrics),
             [page](std::shared_ptr<HttpExchange> exchange) { page->Respond(*exchange); });
  router.SetFallback([](std::shared_ptr<HttpExchange> exchange) {
    RespondError(*exchange, 503, "the server is loading its models: GET /ready says how far it is");
  });
}

}  // namespace penstock
