#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "api/admin/routes.h"
#include "api/http/json_text.h"
#include "api/openai/routes.h"
#include "base/strings.h"
#include "config/config_diff.h"

namespace penstock {
namespace {

/// What is in force: {"hash": ..., "values": {"limits.max_n": "16", ...}}; secrets are not fields.
std::string ConfigJson(const ServerConfig& config) {
  std::string out = absl::StrCat("{\"hash\":\"", ConfigHash(config), "\",\"values\":{");
  bool first = true;
  for (const auto& [path, value] : ConfigValues(config)) {
    if (!std::exchange(first, false)) out += ',';
    AppendJsonString(out, path);
    out += ':';
    AppendJsonString(out, value);
  }
  return out + "}}";
}

void RespondWith(HttpExchange& exchange, std::string body, int status = 200) {
  HttpResponse response;
  response.status = status;
  response.body = std::move(body);
  exchange.Respond(std::move(response));
}

}  // namespace

void AddServerRoutes(Router& router, GenerationService& service, ServerControls controls) {
  constexpr RouteAccess kConfig = RouteAccess::Needs(Permission::kConfig);
  router.Add("GET", "/admin/v1/config", kConfig,
             OnTextWorker(service, [&service](std::shared_ptr<HttpExchange> exchange) {
               RespondWith(*exchange, ConfigJson(*service.config().Get()));
             }));
  router.Add("POST", "/admin/v1/config/reload", kConfig,
             OnTextWorker(service, [&service, reload = controls.reload](
                                       std::shared_ptr<HttpExchange> exchange) {
               const absl::Status status = reload();
               RecordAct(service, exchange->request(), "config.reload", "", status);
               // A change that needs a restart is at odds with what runs, not wrong in itself.
               if (status.code() == absl::StatusCode::kFailedPrecondition)
                 return RespondError(*exchange, 409, Message(status));
               if (!status.ok()) return RespondError(*exchange, 400, Message(status));
               RespondWith(*exchange, ConfigJson(*service.config().Get()));
             }));
  router.Add("POST", "/admin/v1/drain", RouteAccess::Needs(Permission::kOperate),
             [&service, drain = controls.drain](std::shared_ptr<HttpExchange> exchange) {
               RecordAct(service, exchange->request(), "drain", "", absl::OkStatus());
               RespondWith(*exchange, "{\"status\":\"draining\"}", 202);
               drain();
             });
}

}  // namespace penstock
