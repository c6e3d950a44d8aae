#include "server/http_call.h"

#include <curl/curl.h>

#include <algorithm>
#include <memory>
#include <mutex>

#include "absl/status/status.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

struct Answering {
  const HttpCall* call;
  HttpReply reply;
};

size_t TakeAnswer(char* data, size_t size, size_t count, void* self) {
  auto& answering = *static_cast<Answering*>(self);
  std::string& body = answering.reply.body;
  const size_t bytes = size * count;
  const size_t taken = std::min(bytes, answering.call->max_answer - body.size());
  body.append(data, taken);
  if (taken < bytes) answering.reply.is_cut = true;
  return taken == bytes ? bytes : 0;
}

int AskWhetherOver(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  const HttpCall& call = *static_cast<Answering*>(self)->call;
  return call.is_over && call.is_over() ? 1 : 0;
}

}  // namespace

absl::StatusOr<HttpReply> CallHttp(const HttpCall& call) {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  const std::unique_ptr<CURL, void (*)(CURL*)> handle(curl_easy_init(), curl_easy_cleanup);
  CHECK(handle != nullptr);
  CURL* const curl = handle.get();
  Answering answering{&call, {}};
  char error[CURL_ERROR_SIZE] = "";
  curl_easy_setopt(curl, CURLOPT_URL, call.url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_QUICK_EXIT,
                   1L);  // a name that is still looked up is not waited for
  curl_easy_setopt(
      curl, CURLOPT_TIMEOUT_MS,
      static_cast<long>(std::max<int64_t>(1, absl::ToInt64Milliseconds(call.timeout))));
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "penstock");
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answering);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, TakeAnswer);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &answering);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, AskWhetherOver);
  std::unique_ptr<curl_slist, void (*)(curl_slist*)> headers(nullptr, curl_slist_free_all);
  if (call.body != nullptr) {
    headers.reset(curl_slist_append(nullptr, "Content-Type: application/json"));
    curl_slist_append(headers.get(), "Expect:");  // no round trip before the body
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(call.body->size()));
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, call.body->c_str());
  }
  if (!call.credential.empty()) {
    curl_slist* const longer =
        curl_slist_append(headers.get(), ("Authorization: Bearer " + call.credential).c_str());
    static_cast<void>(headers.release());
    headers.reset(longer);
  }
  if (headers != nullptr) curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  const CURLcode code = curl_easy_perform(curl);
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answering.reply.status);
  if (code != CURLE_OK && !answering.reply.is_cut)
    return absl::UnavailableError(error[0] != '\0' ? error : curl_easy_strerror(code));
  return std::move(answering.reply);
}

}  // namespace penstock
