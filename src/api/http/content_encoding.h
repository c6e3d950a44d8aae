// Bodies that came compressed -> what was meant.
// Owns nothing. Must not know sockets or routes.
// Threads: thread-safe; as long as a body is large, so on a text worker.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "api/http/message.h"

namespace penstock {

struct EncodingRefusal {
  int status = 0;  // 400, 413 or 415
  std::string message;
};

/// Inflates the body by the request's Content-Encoding: gzip, deflate, or none. Never makes more
/// than `max_bytes`, whatever the body promises.
std::optional<EncodingRefusal> DecodeBody(HttpRequest& request, size_t max_bytes);

}  // namespace penstock
