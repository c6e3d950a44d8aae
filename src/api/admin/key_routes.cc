#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "api/admin/routes.h"
#include "api/openai/routes.h"

namespace penstock {
namespace {

using KeyAnswer = absl::StatusOr<std::string>;

constexpr std::string_view kBreakGlass = "key.breakglass";

/// The key that a call was about: the answer's, else the request's.
std::string KeyOf(const KeyAnswer& answer, const HttpRequest& request) {
  if (!request.path_argument.empty()) return request.path_argument;
  for (const std::string& text : {answer.ok() ? *answer : std::string(), request.body}) {
    const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("id") || !json["id"].is_string()) continue;
    return json["id"].get<std::string>().substr(0, 64);
  }
  return "";
}

/// What a break-glass key was made for.
std::string ReasonOf(std::string_view action, const KeyAnswer& answer) {
  if (action != kBreakGlass || !answer.ok()) return "";
  return nlohmann::json::parse(*answer)["note"].get<std::string>();
}

/// `action`: that is kept on record; empty: it changes nothing.
template <class Work>
Endpoint KeyRoute(GenerationService& service, const AdminParts& parts, std::string_view action,
                  Work work) {
  return OnTextWorker(
      service, [&service, parts, action, work](std::shared_ptr<HttpExchange> exchange) {
        if (parts.keys == nullptr) {
          return RespondError(*exchange, 503,
                              "this server keeps no keys: auth.api_keys.pepper_file is not set");
        }
        KeyAnswer answer = work(*parts.keys, exchange->request());
        const bool changes = !action.empty();
        if (changes) {
          RecordAct(service, exchange->request(), action, KeyOf(answer, exchange->request()),
                    answer.status(), ReasonOf(action, answer));
        }
        if (!answer.ok()) {
          // A damaged or full state file is the server's fault, and said in the words of the file.
          const bool state = answer.status().code() == absl::StatusCode::kDataLoss;
          return RespondStatus(*exchange, state ? absl::UnavailableError(answer.status().message())
                                                : answer.status());
        }
        if (changes && parts.keys_changed) parts.keys_changed();
        HttpResponse response;
        response.headers.emplace_back("Cache-Control", "no-store");
        response.body = *std::move(answer);
        exchange->Respond(std::move(response));
      });
}

}  // namespace

void AddAdminRoutes(Router& router, GenerationService& service, AdminParts parts) {
  constexpr RouteAccess kKeys = RouteAccess::Needs(Permission::kKeys);
  AddStatusRoutes(router, service);
  AddAdapterRoutes(router, service, AdapterCaller::kOperator);
  router.Add("GET", "/admin/v1/keys", kKeys,
             KeyRoute(service, parts, "",
                      [](const KeyAdmin& keys, const HttpRequest&) { return keys.List(); }));
  router.Add(
      "POST", "/admin/v1/keys", kKeys,
      KeyRoute(service, parts, "key.create", [](const KeyAdmin& keys, const HttpRequest& request) {
        return keys.Create(request.body);
      }));
  router.Add(
      "POST", "/admin/v1/keys/breakglass", kKeys,
      KeyRoute(service, parts, kBreakGlass, [](const KeyAdmin& keys, const HttpRequest& request) {
        return keys.BreakGlass(request.body);
      }));
  router.Add(
      "POST", "/admin/v1/keys/rotate", kKeys,
      KeyRoute(service, parts, "key.rotate", [](const KeyAdmin& keys, const HttpRequest& request) {
        return keys.Rotate(request.body);
      }));
  router.Add(
      "DELETE", "/admin/v1/keys/{id}", kKeys,
      KeyRoute(service, parts, "key.revoke", [](const KeyAdmin& keys, const HttpRequest& request) {
        return keys.Revoke(request.path_argument);
      }));
}

}  // namespace penstock
