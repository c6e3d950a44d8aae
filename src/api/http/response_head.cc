#include "api/http/response_head.h"

#include <charconv>
#include <ctime>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/strings.h"

namespace penstock {
namespace {

std::string_view Reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 421:
      return "Misdirected Request";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    default:
      return "Status";
  }
}

// "Wed, 25 Nov 2026 08:00:00 GMT", made once a second per thread.
const std::string& Date() {
  thread_local std::time_t made_at = 0;
  thread_local std::string text;
  const std::time_t now = std::time(nullptr);
  if (now != made_at) {
    std::tm parts{};
    gmtime_r(&now, &parts);
    char buffer[64];
    text.assign(buffer, std::strftime(buffer, sizeof buffer, "%a, %d %b %Y %H:%M:%S GMT", &parts));
    made_at = now;
  }
  return text;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = absl::ascii_tolower(static_cast<unsigned char>(c));
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

}  // namespace

void AppendHead(std::string& out, const ResponseHead& head) {
  absl::StrAppend(&out, "HTTP/1.1 ", head.status, " ", ToAbsl(Reason(head.status)),
                  "\r\nDate: ", Date(), "\r\n");
  if (!head.content_type.empty() && head.status != 204 && head.status != 304) {
    absl::StrAppend(&out, "Content-Type: ", ToAbsl(head.content_type), "\r\n");
  }
  if (head.chunked) {
    absl::StrAppend(&out, "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n");
    if (!head.http_1_0) absl::StrAppend(&out, "Transfer-Encoding: chunked\r\n");
  } else if (head.has_length && head.status != 204 && head.status != 304) {
    absl::StrAppend(&out, "Content-Length: ", head.content_length, "\r\n");
  }
  if (!head.request_id.empty())
    absl::StrAppend(&out, "X-Request-Id: ", ToAbsl(head.request_id), "\r\n");
  if (head.headers != nullptr) {
    for (const auto& [name, value] : *head.headers)
      absl::StrAppend(&out, name, ": ", value, "\r\n");
  }
  if (head.close) {
    absl::StrAppend(&out, "Connection: close\r\n");
  } else if (head.http_1_0) {
    absl::StrAppend(&out, "Connection: keep-alive\r\n");
  }
  out += "\r\n";
}

void AppendChunk(std::string& out, std::string_view bytes) {
  char digits[20];
  const auto end = std::to_chars(digits, digits + sizeof digits, bytes.size(), 16);
  out.append(digits, end.ptr).append("\r\n").append(bytes).append("\r\n");
}

std::string PercentDecode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && HexDigit(text[i + 1]) >= 0 &&
        HexDigit(text[i + 2]) >= 0) {
      out.push_back(static_cast<char>(HexDigit(text[i + 1]) * 16 + HexDigit(text[i + 2])));
      i += 2;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

}  // namespace penstock
