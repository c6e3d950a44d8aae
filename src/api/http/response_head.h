// Status line and headers as bytes.
// Owns nothing. Must not know sockets.
// Threads: thread-safe.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "api/http/message.h"

namespace penstock {

struct ResponseHead {
  int status = 200;
  std::string_view content_type;
  std::string_view request_id;
  const HttpHeaders* headers = nullptr;
  bool chunked = false;
  bool has_length = true;
  size_t content_length = 0;
  bool close = false;
  bool http_1_0 = false;
};

void AppendHead(std::string& out, const ResponseHead& head);
/// One chunk of a chunked body.
void AppendChunk(std::string& out, std::string_view bytes);
std::string PercentDecode(std::string_view text);

}  // namespace penstock
