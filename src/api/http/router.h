// The table of routes: which endpoint answers which method and path, and who may call it.
// Owns the routes. Must not know sockets or what endpoints do.
// Threads: immutable once the server runs.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "access/access_control.h"
#include "api/http/message.h"
#include "metrics/http_metrics.h"

namespace penstock {

class Catalogue;

/// Called on an I/O thread: must not block, so anything long is handed to a text worker.
using Endpoint = std::function<void(std::shared_ptr<HttpExchange>)>;

class Router {
 public:
  /// `control` judges callers and outlives the router; so does `catalogue`, which counts requests
  /// by route; null: nobody counts them.
  explicit Router(const AccessControl* control, Catalogue* catalogue = nullptr);
  /// `path`: exact, or with a segment {name} that stands for all the rest, or for all up to what
  /// follows it. Of two forms that fit a path the one that was added first counts.
  /// `error_form`: of what is refused under this path; null: OpenAI's.
  void Add(std::string method, std::string path, RouteAccess access, Endpoint endpoint,
           ErrorForm error_form = nullptr);
  /// Answers what no route does; without one that is a 404.
  void SetFallback(Endpoint endpoint) { fallback_ = std::move(endpoint); }
  /// Finds the route and calls its endpoint; answers 401, 403, 404, 405, HEAD and OPTIONS itself.
  void Serve(std::shared_ptr<HttpExchange> exchange) const;
  /// Whether Serve would refuse a request with this head, whatever its body.
  bool Refuses(HttpRequest& head) const;
  /// Where what never became a request is counted.
  const HttpRouteMetrics& unread() const { return unrouted_.back(); }

 private:
  struct Route {
    std::string method, path;
    bool has_argument = false;  // `path` is then the part before it
    std::string suffix;         // the part behind it
    RouteAccess access;
    Endpoint endpoint;
    ErrorForm error_form = nullptr;
    HttpRouteMetrics metrics;
  };
  const Route* Find(HttpRequest& request, std::string* allowed) const;
  const HttpRouteMetrics& Unrouted(std::string_view method) const;

  const AccessControl& control_;
  Catalogue* const catalogue_;
  std::array<HttpRouteMetrics, 4> unrouted_;  // in the order of kCountedMethods
  std::vector<Route> routes_;
  Endpoint fallback_;
};

/// Answers in the error form of the request's route; adds Retry-After to 429 and 503, WWW-Authenticate to 401.
void RespondError(HttpExchange& exchange, int status, std::string_view message,
                  std::string_view param = {}, HttpHeaders headers = {});

}  // namespace penstock
