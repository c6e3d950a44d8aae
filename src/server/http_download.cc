#include "server/http_download.h"

#include <curl/curl.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

constexpr long kConnectSeconds = 30;
constexpr long kStallSeconds = 60;  // less than 1 byte/s for so long: given up, to be resumed
constexpr int kTries = 5;

class Transfer {
 public:
  Transfer(const std::string& url, const std::string& token) : url_(url), curl_(curl_easy_init()) {
    CHECK(curl_ != nullptr);
    Set(CURLOPT_URL, url.c_str());
    Set(CURLOPT_FOLLOWLOCATION, 1L);
    Set(CURLOPT_MAXREDIRS, 8L);
    Set(CURLOPT_PROTOCOLS_STR, "http,https");
    Set(CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
    Set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    Set(CURLOPT_LOW_SPEED_TIME, kStallSeconds);
    Set(CURLOPT_NOSIGNAL, 1L);
    Set(CURLOPT_USERAGENT, "penstock");
    Set(CURLOPT_ERRORBUFFER, error_);
    if (!token.empty()) {  // libcurl keeps a bearer token from hosts that a redirect leads to
      Set(CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BEARER));
      Set(CURLOPT_XOAUTH2_BEARER, token.c_str());
    }
    Set(CURLOPT_WRITEDATA, this);
    Set(CURLOPT_WRITEFUNCTION, static_cast<curl_write_callback>([](char* data, size_t size,
                                                                   size_t n, void* self) -> size_t {
          return static_cast<Transfer*>(self)->Write(data, size * n) ? size * n : 0;
        }));
  }
  ~Transfer() { curl_easy_cleanup(curl_); }
  Transfer(const Transfer&) = delete;

  template <class T>
  void Set(CURLoption option, T value) {
    curl_easy_setopt(curl_, option, value);
  }

  /// Returns false to stop; called with the body of a 2xx answer only.
  std::function<bool(std::string_view)> on_body;

  long status() const {
    long code = 0;
    curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &code);
    return code;
  }

  absl::Status Perform() {
    const CURLcode code = curl_easy_perform(curl_);
    const long http = status();
    if (http == 401 || http == 403) {
      return absl::PermissionDeniedError(
          absl::StrCat(url_, ": HTTP ", http, "; a gated or private model needs HF_TOKEN"));
    }
    if (http == 404) return absl::NotFoundError(absl::StrCat(url_, ": HTTP 404"));
    if (http >= 400) return absl::UnavailableError(absl::StrCat(url_, ": HTTP ", http));
    if (code != CURLE_OK) {
      return absl::UnavailableError(
          absl::StrCat(url_, ": ", error_[0] != '\0' ? error_ : curl_easy_strerror(code)));
    }
    return absl::OkStatus();
  }

 private:
  bool Write(const char* data, size_t n) {
    return status() >= 300 || on_body({data, n});  // the body of an error is of no use
  }

  std::string url_;
  CURL* curl_;
  char error_[CURL_ERROR_SIZE] = "";
};

}  // namespace

absl::StatusOr<std::string> HttpGet(const std::string& url, const std::string& token,
                                    int64_t max_bytes) {
  Transfer transfer(url, token);
  std::string body;
  transfer.on_body = [&](std::string_view data) {
    body.append(data);
    return static_cast<int64_t>(body.size()) <= max_bytes;
  };
  RETURN_IF_ERROR(transfer.Perform());
  return body;
}

absl::Status HttpDownload(const std::string& url, const std::string& token, const std::string& path,
                          int64_t size, const std::function<void(int64_t)>& progress) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "ab"), &std::fclose);
  if (file == nullptr) return absl::UnavailableError(absl::StrCat(path, ": cannot be written"));
  int64_t have = static_cast<int64_t>(std::filesystem::file_size(path));
  absl::Status status;
  for (int attempt = 0; attempt < kTries && have < size; ++attempt) {
    Transfer transfer(url, token);
    if (have > 0) transfer.Set(CURLOPT_RANGE, absl::StrCat(have, "-").c_str());
    const int64_t before = have;
    bool disk_full = false;
    transfer.on_body = [&](std::string_view data) {
      if (before > 0 && transfer.status() != 206) return false;  // the server does not resume
      if (have + static_cast<int64_t>(data.size()) > size) return false;
      disk_full = std::fwrite(data.data(), 1, data.size(), file.get()) != data.size();
      if (disk_full) return false;
      have += static_cast<int64_t>(data.size());
      progress(have);
      return true;
    };
    status = transfer.Perform();
    std::fflush(file.get());
    if (disk_full)
      return absl::ResourceExhaustedError(
          absl::StrCat(path, ": cannot be written (is the disk full?)"));
    if (absl::IsPermissionDenied(status) || absl::IsNotFound(status)) return status;
    if (before > 0 && transfer.status() == 200) {  // begin again from the first byte
      if (ftruncate(fileno(file.get()), 0) != 0)
        return absl::UnavailableError(absl::StrCat(path, ": cannot be truncated"));
      have = 0;
    }
  }
  if (have == size) return absl::OkStatus();
  if (!status.ok()) return status;
  return absl::UnavailableError(absl::StrCat(url, ": ended after ", have, " of ", size, " bytes"));
}

}  // namespace penstock
