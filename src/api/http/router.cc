#include "api/http/router.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "api/http/json_text.h"
#include "base/strings.h"
#include "service/call_error.h"

namespace penstock {

void RespondError(HttpExchange& exchange, int status, std::string_view message,
                  std::string_view param) {
  HttpResponse response;
  response.status = status;
  response.body = ErrorBody(status, message, param);
  if (status == 429 || status == 503) response.headers.emplace_back("Retry-After", "1");
  if (status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  exchange.Respond(std::move(response));
}

void Router::Add(std::string method, std::string path, Access access, Endpoint endpoint) {
  const size_t brace = path.find('{');
  const bool has_argument = brace != std::string::npos;
  if (has_argument) path.resize(brace);
  routes_.push_back(
      {std::move(method), std::move(path), has_argument, access, std::move(endpoint)});
}

const Router::Route* Router::Find(HttpRequest& request, std::string* allowed) const {
  const std::string_view method =
      request.method == "HEAD" ? "GET" : std::string_view(request.method);
  const std::string_view path = request.path;
  for (const Route& route : routes_) {
    const bool matches = route.has_argument
                             ? path.size() > route.path.size() && path.starts_with(route.path)
                             : path == route.path;
    if (!matches) continue;
    if (route.method == method) {
      if (route.has_argument) request.path_argument = request.path.substr(route.path.size());
      return &route;
    }
    absl::StrAppend(allowed, allowed->empty() ? "" : ", ", route.method,
                    route.method == "GET" ? ", HEAD" : "");
  }
  return nullptr;
}

void Router::Serve(std::shared_ptr<HttpExchange> exchange) const {
  HttpRequest& request = exchange->request();
  std::string allowed;
  const Route* route = Find(request, &allowed);
  if (route == nullptr) {
    if (allowed.empty()) {
      return RespondError(*exchange, 404,
                          absl::StrCat("there is no route ", request.method, " ", request.path));
    }
    HttpResponse response;
    response.headers.emplace_back("Allow", allowed + ", OPTIONS");
    response.status = request.method == "OPTIONS" ? 204 : 405;
    if (response.status == 405) {
      response.body = ErrorBody(
          405, absl::StrCat(request.path, " answers ", allowed, ", not ", request.method), "");
    }
    return exchange->Respond(std::move(response));
  }
  const bool free = route->access == Access::kOpen ||
                    (route->access == Access::kLoopback && request.from_loopback);
  if (!free) {
    const absl::Status allowed_in = authorize_(request.credential);
    if (!allowed_in.ok())
      return RespondError(*exchange, HttpStatus(allowed_in.code()), Message(allowed_in));
  }
  route->endpoint(std::move(exchange));
}

}  // namespace penstock
