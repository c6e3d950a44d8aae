#include "server/boot_routes.h"

#include <utility>

namespace penstock {

void AddBootRoutes(Router& router, const BootProgress& progress) {
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
  router.SetFallback([](std::shared_ptr<HttpExchange> exchange) {
    RespondError(*exchange, 503, "the server is loading its models: GET /ready says how far it is");
  });
}

}  // namespace penstock
