// One HTTP request and its answer, free of any HTTP library; and the exchange that an endpoint
// works with.
// Owns its strings. Must not know sockets, routes or JSON.
// Threads: messages are values; an HttpExchange is thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "access/ip_address.h"
#include "access/principal.h"
#include "penstock/service.h"
#include "service/trace.h"

namespace penstock {

struct HttpRequest;
struct HttpResponse;
struct HttpRouteMetrics;

/// How an API writes an error: fills in body and headers of a response whose status is set. `param`
/// empty: no field is at fault.
using ErrorForm = void (*)(const HttpRequest& request, std::string_view message,
                           std::string_view param, HttpResponse& response);

struct HttpRequest {
  std::string method;  // upper case
  std::string path;    // without query, percent-decoded
  std::string query;   // raw
  std::string body;
  std::string content_encoding;  // of the body; empty: as it is
  std::string request_id;        // the client's cleaned X-Request-Id, or one of ours
  TraceIds trace;
  std::string credential;                 // Authorization or X-Api-Key
  PrincipalPtr principal;                 // null where the route asks for none
  std::string idempotency_key;            // empty: none
  std::string if_none_match;              // what the client has already; empty: nothing
  bool is_preflight = false;              // a page of an allowed origin asks what it may send
  std::string preflight_headers;          // Access-Control-Request-Headers
  ErrorForm error_form = nullptr;         // of the route; null: OpenAI's
  std::optional<std::string> wrong_host;  // the Host that is no name of this server
  std::string path_argument;              // what {name} of the route stands for
  IpAddress peer;                         // the other side of the connection
  bool is_local = false;                  // on this machine, and not by way of a proxy
  bool by_socket = false;                 // by a file of this machine
  std::optional<uint32_t> peer_uid;       // by_socket: whose process it is
  std::shared_ptr<const std::vector<std::string>> peer_names;  // of its certificate; null: none
  bool certificate_refused = false;                            // which the connection began with
  absl::Time arrival;  // engine clock; when the request was complete

  /// Whose answers and responses are kept: callers that nobody tells apart are told apart by what
  /// they send.
  const std::string& owner() const {
    return principal == nullptr || principal->owner.empty() ? credential : principal->owner;
  }
};

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  HttpHeaders headers;  // further ones
  std::string body;
};

/// The type of a stream of server-sent events.
inline constexpr std::string_view kEventStream = "text/event-stream; charset=utf-8";

/// One request being answered. Either Respond once, or StartStream, Write any number of times,
/// EndStream. Calls after the end, or after the client went away, do nothing. Destroyed without an
/// answer, it answers 500.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  virtual HttpRequest& request() = 0;
  /// Where the request is counted when it ends; outlives the exchange. Before anything is answered.
  virtual void CountAs(const HttpRouteMetrics&) {}
  virtual void Respond(HttpResponse response) = 0;
  /// A body of unknown length; leaves together with what is written at once after it.
  virtual void StartStream(std::string_view content_type, const HttpHeaders& headers) = 0;
  void StartStream(std::string_view content_type) { StartStream(content_type, {}); }
  virtual void Write(std::string_view bytes) = 0;
  /// `close`: the connection ends with it, as after an error.
  virtual void EndStream(bool close) = 0;
  virtual bool started() const = 0;
  /// A further header of the answer; before it begins.
  virtual void AddHeader(std::string, std::string) {}
  /// More than limits.stream_buffer bytes wait for the client. After true, `drained` is called once
  /// it is half of that.
  virtual bool congested() = 0;
  /// `gone`: the client went away before the end, or read too slowly; at once if it has already.
  /// Both are called on the I/O thread, must be quick, and are dropped at the end of the exchange.
  virtual void Watch(std::function<void(CancelReason)> gone, std::function<void()> drained) = 0;
};

}  // namespace penstock
