// Bodies that came compressed -> what was meant; answers -> compressed, as the client likes.
// Owns nothing. Must not know sockets or routes.
// Threads: thread-safe; as long as a body is large, so on a text worker.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "api/http/message.h"

namespace penstock {

struct EncodingRefusal {
  int status = 0;  // 400, 413 or 415
  std::string message;
};

/// Inflates the body by the request's Content-Encoding: gzip, deflate, zstd, or none. Never makes
/// more than `max_bytes`, whatever the body promises.
std::optional<EncodingRefusal> DecodeBody(HttpRequest& request, size_t max_bytes);

/// "zstd" or "gzip" where Accept-Encoding takes it, the first of the two where it takes both
/// equally; "" where it takes neither.
std::string_view ChooseEncoding(std::string_view accept_encoding);

/// Compresses a body that is worth it by ChooseEncoding, and says so in the headers.
void EncodeBody(std::string_view accept_encoding, HttpResponse& response);

}  // namespace penstock
