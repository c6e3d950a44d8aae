// The server that is measured: where it is, its process, the model that it lists.
// Owns nothing. Must not know scenarios.
// Threads: any.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/target_connection.h"

namespace penstock {

struct Target {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;
  std::string prefix;  // of every path, such as /openai
  bool tls = false;
  std::string ca_file;  // of the authorities that are trusted; empty: the system's
  std::string api_key;
  int64_t pid = 0;  // of the server, for its CPU time and memory; 0: not measured

  std::string authority() const;  // host:port
  std::string name() const;       // the same with https:// and the prefix, where there are any
};

/// host:port, or a URL of http or https that may end with /v1. INVALID_ARGUMENT for what is none.
absl::StatusOr<Target> ParseTarget(const std::string& text);

/// NOT_FOUND where the name is nobody's, INVALID_ARGUMENT where ca_file cannot be read.
absl::StatusOr<TargetAddress> ResolveTarget(const Target& target);
/// The bytes of a request.
std::string HttpRequestBytes(const Target& target, std::string_view method, std::string_view path,
                             std::string_view body);
struct TargetReply {
  int status = 0;
  std::string body;
};
/// One request on a connection of its own. UNAVAILABLE: no whole answer within `patience`.
absl::StatusOr<TargetReply> AskTarget(const Target& target, const TargetAddress& address,
                                      std::string_view method, std::string_view path,
                                      std::string_view body, absl::Duration patience);
/// The first of /v1/models. Errors as of AskTarget.
absl::StatusOr<std::string> FirstModelOf(const Target& target, const TargetAddress& address,
                                         absl::Duration patience);

struct ProcessUse {
  double cpu_seconds = -1;  // -1: unknown
  int64_t rss_bytes = -1;
};
/// Unknown where there is no such process.
ProcessUse UseOfProcess(int64_t pid);

}  // namespace penstock
