// What HTTP headers and compressed bodies become: traces, CORS, encodings, ids. The first byte
// chooses the encoding, the rest is the header or the body.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "api/http/content_encoding.h"
#include "api/http/cors.h"
#include "service/ids.h"
#include "service/trace.h"

namespace {

void CheckHeaderValue(std::string_view value) {
  for (const char c : value) {
    if (c == '\r' || c == '\n' || c == '\0') __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);

  const TraceIds trace = ContinueTrace(text);
  const std::string traceparent = Traceparent(trace);
  CheckHeaderValue(traceparent);
  // What is sent on is a traceparent, and of the same trace.
  if (traceparent.size() != 55 || ContinueTrace(traceparent).trace_id != trace.trace_id)
    __builtin_trap();
  CheckHeaderValue(CleanRequestId(text));

  HttpHeaders headers;
  AppendPreflightHeaders("POST", text, headers);
  AppendCorsHeaders({"https://app.example", "*"}, text, headers);
  AppendCorsHeaders({"https://app.example"}, text, headers);
  for (const auto& [name, value] : headers) CheckHeaderValue(value);

  constexpr std::string_view kEncodings[] = {"gzip", "deflate", "zstd", "identity"};
  constexpr size_t kMaxBytes = 1 << 20;
  HttpRequest request;
  request.content_encoding = std::string(kEncodings[data[0] % 4]);
  request.body = std::string(text);
  if (!DecodeBody(request, kMaxBytes) && request.body.size() > kMaxBytes &&
      request.body.size() > text.size()) {
    __builtin_trap();
  }
  HttpResponse response;
  response.body.assign(5000, 'a');
  EncodeBody(text, response);
  for (const auto& [name, value] : response.headers) CheckHeaderValue(value);
  return 0;
}
