// One bounded HTTP call of the server's own, to a collector or an issuer: it ends in time, and its
// answer is small, whatever the other side does.
// Owns nothing between calls. Must not know what is sent or asked.
// Threads: thread-safe; blocks.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace penstock {

struct HttpCall {
  std::string url;                    // http or https; redirects are not followed
  const std::string* body = nullptr;  // JSON to POST; null: GET
  std::string credential;             // goes as a bearer token; empty: none
  absl::Duration timeout = absl::Seconds(5);
  size_t max_answer = 65536;      // bytes
  std::function<bool()> is_over;  // asked about once a second: true gives up; null: never
};

struct HttpReply {
  long status = 0;
  std::string body;
  bool is_cut = false;  // there was more than max_answer
};

/// UNAVAILABLE in one line, without the URL, where no whole answer came.
absl::StatusOr<HttpReply> CallHttp(const HttpCall& call);

}  // namespace penstock
