#include "api/http/cors.h"

#include <algorithm>

#include "absl/strings/ascii.h"

namespace penstock {
namespace {

constexpr size_t kMaxRequestedHeaders = 1024;  // bytes that a preflight's answer repeats

bool IsListOfNames(std::string_view text) {
  return text.size() <= kMaxRequestedHeaders && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' ||
                  c == ',' || c == ' ';
         });
}

}  // namespace

bool AppendCorsHeaders(const std::vector<std::string>& origins, std::string_view origin,
                       HttpHeaders& headers) {
  if (origins.empty()) return false;
  const bool everyone = std::find(origins.begin(), origins.end(), "*") != origins.end();
  if (!everyone) headers.emplace_back("Vary", "Origin");
  if (origin.empty()) return false;
  const auto listed = std::find(origins.begin(), origins.end(), origin);
  if (!everyone && listed == origins.end()) return false;
  headers.emplace_back("Access-Control-Allow-Origin", everyone ? "*" : *listed);
  headers.emplace_back("Access-Control-Expose-Headers",
                       "X-Request-Id, request-id, traceparent, Retry-After");
  return true;
}

void AppendPreflightHeaders(std::string_view methods, std::string_view requested_headers,
                            HttpHeaders& headers) {
  headers.emplace_back("Access-Control-Allow-Methods", std::string(methods));
  if (!requested_headers.empty() && IsListOfNames(requested_headers))
    headers.emplace_back("Access-Control-Allow-Headers", std::string(requested_headers));
  headers.emplace_back("Access-Control-Max-Age", "600");
}

}  // namespace penstock
