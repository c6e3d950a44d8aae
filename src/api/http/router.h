// The table of routes: which endpoint answers which method and path, and who may call it.
// Owns the routes. Must not know sockets or what endpoints do.
// Threads: immutable once the server runs.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "api/http/message.h"

namespace penstock {

/// Called on an I/O thread: must not block, so anything long is handed to a text worker.
using Endpoint = std::function<void(std::shared_ptr<HttpExchange>)>;

enum class Access : uint8_t {
  kOpen,      // everyone
  kLoopback,  // this machine without a key, others with one
  kKey,       // with a key, where keys are configured
};

class Router {
 public:
  /// `authorize` judges a credential.
  explicit Router(std::function<absl::Status(std::string_view credential)> authorize)
      : authorize_(std::move(authorize)) {}
  /// `path`: exact, or with a segment {name} that stands for all the rest, or for all up to what
  /// follows it. Of two forms that fit a path the one that was added first counts.
  /// `error_form`: of what is refused under this path; null: OpenAI's.
  void Add(std::string method, std::string path, Access access, Endpoint endpoint,
           ErrorForm error_form = nullptr);
  /// Finds the route and calls its endpoint; answers 401, 404, 405, HEAD and OPTIONS itself.
  void Serve(std::shared_ptr<HttpExchange> exchange) const;

 private:
  struct Route {
    std::string method, path;
    bool has_argument = false;  // `path` is then the part before it
    std::string suffix;         // the part behind it
    Access access = Access::kKey;
    Endpoint endpoint;
    ErrorForm error_form = nullptr;
  };
  const Route* Find(HttpRequest& request, std::string* allowed) const;

  std::function<absl::Status(std::string_view)> authorize_;
  std::vector<Route> routes_;
};

/// Answers in the error form of the request's route; adds Retry-After to 429 and 503, WWW-Authenticate to 401.
void RespondError(HttpExchange& exchange, int status, std::string_view message,
                  std::string_view param = {}, HttpHeaders headers = {});

}  // namespace penstock
