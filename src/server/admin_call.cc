#include "server/admin_call.h"

#include <curl/curl.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

constexpr long kCallSeconds = 60;
constexpr size_t kMaxAnswer = 64 << 20;

size_t AppendBody(char* data, size_t size, size_t n, void* out) {
  auto& body = *static_cast<std::string*>(out);
  if (body.size() + size * n > kMaxAnswer) return 0;
  body.append(data, size * n);
  return size * n;
}

/// The message of an error's envelope; else the whole body.
std::string MessageOf(const std::string& body) {
  const auto json = nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (json.is_object() && json.contains("error") && json["error"].is_object())
    return json["error"].value("message", body);
  return body;
}

}  // namespace

absl::StatusOr<std::string> CallAdmin(const std::string& socket, const std::string& method,
                                      const std::string& path, const std::string& body) {
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), curl_easy_cleanup);
  CHECK(curl != nullptr);
  const std::unique_ptr<curl_slist, void (*)(curl_slist*)> headers(
      curl_slist_append(nullptr, "Content-Type: application/json"), curl_slist_free_all);
  const std::string url = absl::StrCat("http://localhost", path);
  std::string answer;
  const auto set = [&](CURLoption option, auto value) {
    curl_easy_setopt(curl.get(), option, value);
  };
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_UNIX_SOCKET_PATH, socket.c_str());
  set(CURLOPT_CUSTOMREQUEST, method.c_str());
  set(CURLOPT_HTTPHEADER, headers.get());
  set(CURLOPT_TIMEOUT, kCallSeconds);
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_WRITEFUNCTION, AppendBody);
  set(CURLOPT_WRITEDATA, &answer);
  if (!body.empty()) {
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    set(CURLOPT_POSTFIELDS, body.c_str());
  }
  const CURLcode code = curl_easy_perform(curl.get());
  if (code != CURLE_OK) {
    return absl::UnavailableError(
        absl::StrCat("no server answers on ", socket, ": ", curl_easy_strerror(code)));
  }
  long status = 0;
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  if (status / 100 == 2) return answer;
  const std::string message = MessageOf(answer);
  return status >= 500 ? absl::UnavailableError(message) : absl::InvalidArgumentError(message);
}

std::string PathSegment(const std::string& text) {
  std::string out;
  for (const unsigned char c : text) {
    if (absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.') {
      out += static_cast<char>(c);
    } else {
      absl::StrAppendFormat(&out, "%%%02X", c);
    }
  }
  return out;
}

int AdminFailure(const absl::Status& status) {
  std::fprintf(stderr, "penstock: %s\n", std::string(status.message()).c_str());
  return status.code() == absl::StatusCode::kUnavailable ? 4 : 1;
}

}  // namespace penstock
