#include "api/http/router.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "api/http/cors.h"
#include "api/http/json_text.h"
#include "base/cpu_parts.h"
#include "base/strings.h"
#include "metrics/catalogue.h"
#include "service/call_error.h"

namespace penstock {

namespace {

constexpr std::string_view kCountedMethods[] = {"GET", "POST", "DELETE", "none"};

/// HEAD is asked of the route of GET.
std::string_view RoutedMethod(const HttpRequest& request) {
  return request.method == "HEAD" ? "GET" : std::string_view(request.method);
}

Caller CallerOf(const HttpRequest& request) {
  return {request.credential,       request.peer,
          request.is_local,         request.by_socket,
          request.peer_names.get(), request.certificate_refused};
}

}  // namespace

void RespondError(HttpExchange& exchange, int status, std::string_view message,
                  std::string_view param, HttpHeaders headers) {
  const HttpRequest& request = exchange.request();
  HttpResponse response;
  response.status = status;
  response.headers = std::move(headers);
  if (request.error_form != nullptr) {
    request.error_form(request, message, param, response);
  } else {
    response.body = ErrorBody(status, message, param);
  }
  const auto says_when = [](const auto& header) { return header.first == "Retry-After"; };
  if ((status == 429 || status == 503) &&
      std::none_of(response.headers.begin(), response.headers.end(), says_when))
    response.headers.emplace_back("Retry-After", "1");
  if (status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  exchange.Respond(std::move(response));
}

Router::Router(const AccessControl* control, Catalogue* catalogue)
    : control_(*control), catalogue_(catalogue) {
  static_assert(std::size(kCountedMethods) == std::tuple_size_v<decltype(unrouted_)>);
  if (catalogue == nullptr) return;
  for (size_t i = 0; i < unrouted_.size(); ++i)
    unrouted_[i] = catalogue->MakeHttpRouteMetrics("none", std::string(kCountedMethods[i]));
}

void Router::Add(std::string method, std::string path, RouteAccess access, Endpoint endpoint,
                 ErrorForm error_form) {
  HttpRouteMetrics metrics;
  if (catalogue_ != nullptr) metrics = catalogue_->MakeHttpRouteMetrics(path, method);
  const size_t brace = path.find('{');
  const bool has_argument = brace != std::string::npos;
  std::string suffix = has_argument ? path.substr(path.find('}', brace) + 1) : "";
  if (has_argument) path.resize(brace);
  routes_.push_back({std::move(method), std::move(path), has_argument, std::move(suffix), access,
                     std::move(endpoint), error_form, metrics});
}

const Router::Route* Router::Find(HttpRequest& request, std::string* allowed) const {
  const std::string_view method = RoutedMethod(request);
  const std::string_view path = request.path;
  const Route* form = nullptr;
  for (const Route& route : routes_) {
    const size_t around = route.path.size() + route.suffix.size();
    const bool matches =
        route.has_argument
            ? path.size() > around && path.starts_with(route.path) && path.ends_with(route.suffix)
            : path == route.path;
    if (!matches || (form != nullptr && form->suffix != route.suffix)) continue;
    form = &route;
    request.error_form = route.error_form;
    if (route.method == method) {
      if (route.has_argument)
        request.path_argument = request.path.substr(route.path.size(), path.size() - around);
      return &route;
    }
    absl::StrAppend(allowed, allowed->empty() ? "" : ", ", route.method,
                    route.method == "GET" ? ", HEAD" : "");
  }
  return nullptr;
}

const HttpRouteMetrics& Router::Unrouted(std::string_view method) const {
  const auto* const end = std::end(kCountedMethods) - 1;
  return unrouted_[std::find(std::begin(kCountedMethods), end, method) - kCountedMethods];
}

bool Router::Refuses(HttpRequest& head) const {
  std::string allowed;
  const Route* route = Find(head, &allowed);
  if (head.wrong_host) return true;
  if (route == nullptr) return !allowed.empty() || !fallback_;
  return !control_.WouldAdmit(CallerOf(head), route->access, head.path);
}

void Router::Serve(std::shared_ptr<HttpExchange> exchange) const {
  HttpRequest& request = exchange->request();
  std::string allowed;
  const Route* route = Find(request, &allowed);
  exchange->CountAs(route != nullptr ? route->metrics : Unrouted(RoutedMethod(request)));
  if (request.wrong_host) {
    return RespondError(
        *exchange, 421,
        absl::StrCat("the Host \"", Shown(*request.wrong_host),
                     "\" is no name of this server: server.allowed_hosts lists them"));
  }
  if (route == nullptr) {
    if (request.method == "OPTIONS" && request.path == "*") allowed = "GET, HEAD, POST, DELETE";
    if (allowed.empty() && fallback_) return fallback_(std::move(exchange));
    if (allowed.empty()) {
      return RespondError(*exchange, 404,
                          absl::StrCat("there is no route ", request.method, " ", request.path));
    }
    HttpResponse response;
    response.headers.emplace_back("Allow", allowed + ", OPTIONS");
    if (request.method != "OPTIONS") {
      return RespondError(
          *exchange, 405,
          absl::StrCat(request.path, " answers ", allowed, ", not ", request.method), "",
          std::move(response.headers));
    }
    response.status = 204;
    if (request.is_preflight)
      AppendPreflightHeaders(allowed, request.preflight_headers, response.headers);
    return exchange->Respond(std::move(response));
  }
  AccessControl::Found caller = [&] {
    const CpuPart part(FrontPart::kAccess);
    return control_.Admit(CallerOf(request), route->access, request.path);
  }();
  if (!caller.ok())
    return RespondError(*exchange, HttpStatus(caller.status().code()), Message(caller.status()));
  request.principal = *std::move(caller);
  route->endpoint(std::move(exchange));
}

}  // namespace penstock
