#include "chain/http_link.h"

#include <curl/curl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/utf8.h"
#include "chain/call_json.h"
#include "chain/lua_link.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;
using Steady = std::chrono::steady_clock;

constexpr size_t kMaxAnswer = 4 << 20;  // bytes
constexpr int kMaxAnswerDepth = 64;     // of an answer's JSON
constexpr int kFailuresToOpen = 5;      // in a row
constexpr auto kOpenFor = std::chrono::seconds(2);

struct CurlEnd {
  void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
};
using CurlHandle = std::unique_ptr<CURL, CurlEnd>;

/// Whether brackets outside of texts nest no deeper than may be.
bool IsShallow(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxAnswerDepth) return false;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return true;
}

size_t TakeBytes(char* bytes, size_t size, size_t count, void* user) {
  auto& body = *static_cast<std::string*>(user);
  if (body.size() + size * count > kMaxAnswer) return 0;  // ends the transfer
  body.append(bytes, size * count);
  return size * count;
}

/// Opens after failures in a row; then one call at a time finds out whether the service is back.
class Breaker {
 public:
  enum Pass : uint8_t { kNo, kYes, kProbe };
  Pass Allow() {
    const std::lock_guard lock(mutex_);
    if (failures_ < kFailuresToOpen) return kYes;
    if (probed_ || Steady::now() < closed_until_) return kNo;
    probed_ = true;
    return kProbe;
  }
  void Tell(Pass pass, bool good) {
    const std::lock_guard lock(mutex_);
    if (pass == kProbe) probed_ = false;
    failures_ = good ? 0 : failures_ + 1;
    if (failures_ >= kFailuresToOpen) closed_until_ = Steady::now() + kOpenFor;
  }

 private:
  std::mutex mutex_;  // guards from here
  int failures_ = 0;
  bool probed_ = false;  // a call finds out now
  Steady::time_point closed_until_;
};

class HttpLink final : public ChainLink {
 public:
  HttpLink(std::string name, const GuardEntry& settings)
      : ChainLink(std::move(name), settings),
        on_response_(Lists("response")),
        on_request_(settings.phases.empty() || Lists("request")) {}

  bool waits() const override { return true; }

  LinkResult OnCall(LinkView& view) override {
    if (!on_request_) return LinkResult::Pass();
    std::optional<Json> body;
    const LinkResult result = Ask(view, "request", CallToJson(*view.call), &body);
    if (!result.passed() || !body) return result;
    const std::string wrong = CallFromJson(*body, *view.call);
    return wrong.empty() ? result : LinkResult::Fail(absl::StrCat("request: ", wrong));
  }

  bool takes_response() const override { return on_response_; }
  LinkResult OnResponse(LinkView& view, Json& body) override {
    std::optional<Json> changed;
    const LinkResult result = Ask(view, "response", body, &changed);
    if (result.passed() && changed) body = *std::move(changed);
    return result;
  }

 private:
  bool Lists(std::string_view phase) const {
    const auto& phases = settings().phases;
    return std::find(phases.begin(), phases.end(), phase) != phases.end();
  }

  LinkResult Ask(LinkView& view, const char* phase, const Json& body,
                 std::optional<Json>* changed) {
    const Breaker::Pass pass = breaker_.Allow();
    if (pass == Breaker::kNo)
      return LinkResult::Fail("the service failed before and is left alone");
    const Json asked = {
        {"phase", phase}, {"request_id", view.request_id}, {"tenant", view.tenant}, {"body", body}};
    std::string text;
    std::string wrong = Post(asked.dump(-1, ' ', false, Json::error_handler_t::replace), text);
    Json answer;
    if (wrong.empty()) {
      if (!IsShallow(text)) {
        wrong = "its answer is too deep";
      } else {
        answer = Json::parse(text, nullptr, /*allow_exceptions=*/false);
        if (!answer.is_object()) wrong = "its answer is no JSON object";
      }
    }
    LinkResult result = wrong.empty() ? Follow(answer, view, changed) : LinkResult::Fail(wrong);
    breaker_.Tell(pass, result.outcome != LinkOutcome::kFailed);
    return result;
  }

  static LinkResult Follow(Json& answer, LinkView& view, std::optional<Json>* changed) {
    const auto text = [&](const char* name) -> std::string {
      const auto it = answer.find(name);
      return it != answer.end() && it->is_string() ? it->get<std::string>() : std::string();
    };
    const std::string action = text("action");
    if (action == "pass") return LinkResult::Pass();
    if (action == "deny") {
      const auto status = answer.find("status");
      const bool number = status != answer.end() && status->is_number_integer();
      std::string message = text("message").substr(0, 1024);
      if (message.empty()) message = "refused by a guard";
      return LinkResult::Deny(CodeOfDenial(number ? static_cast<int>(status->get<int64_t>()) : 403),
                              RepairUtf8(message));
    }
    if (action == "edit" && answer.contains("body")) {
      *changed = std::move(answer["body"]);
      return LinkResult::Pass();
    }
    if (action == "route" && view.call != nullptr && !text("model").empty()) {
      view.call->model = text("model");
      return LinkResult::Pass();
    }
    return LinkResult::Fail("its answer names no action that there is");
  }

  /// "" or what went wrong.
  std::string Post(const std::string& body, std::string& answer) {
    CurlHandle curl = Take();
    if (curl == nullptr) return "no connection can be made";
    CURL* const handle = curl.get();
    curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, &answer);
    const CURLcode code = curl_easy_perform(handle);
    long status = 0;
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
    if (code != CURLE_OK) return curl_easy_strerror(code);  // its connection goes with the handle
    GiveBack(std::move(curl));
    return status == 200 ? "" : absl::StrCat("it answered ", status);
  }

  CurlHandle Take() {
    {
      const std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        CurlHandle curl = std::move(idle_.back());
        idle_.pop_back();
        return curl;
      }
    }
    static const bool ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
    CurlHandle curl(ready ? curl_easy_init() : nullptr);
    if (curl == nullptr) return curl;
    CURL* const handle = curl.get();
    const auto milliseconds = static_cast<long>(absl::ToInt64Milliseconds(settings().timeout));
    curl_easy_setopt(handle, CURLOPT_URL, settings().url.c_str());
    curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
    if (!settings().cert_file.empty()) {
      curl_easy_setopt(handle, CURLOPT_SSLCERT, settings().cert_file.c_str());
      curl_easy_setopt(handle, CURLOPT_SSLKEY, settings().key_file.c_str());
    }
    if (!settings().ca_file.empty())
      curl_easy_setopt(handle, CURLOPT_CAINFO, settings().ca_file.c_str());
    curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(handle, CURLOPT_PROXY, "");
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, std::max(1L, milliseconds));
    curl_easy_setopt(handle, CURLOPT_POST, 1L);
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers_.get());
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, TakeBytes);
    return curl;
  }

  void GiveBack(CurlHandle curl) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(curl));
  }

  struct ListEnd {
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
  };
  static std::unique_ptr<curl_slist, ListEnd> Headers() {
    curl_slist* list = curl_slist_append(nullptr, "Content-Type: application/json");
    return std::unique_ptr<curl_slist, ListEnd>(curl_slist_append(list, "Expect:"));
  }

  const bool on_response_, on_request_;
  const std::unique_ptr<curl_slist, ListEnd> headers_ = Headers();  // outlives the handles
  Breaker breaker_;
  std::mutex mutex_;  // guards idle_
  std::vector<CurlHandle> idle_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ChainLink>> MakeHttpLink(const std::string& name,
                                                        const GuardEntry& settings) {
  for (const std::string* file : {&settings.cert_file, &settings.key_file, &settings.ca_file}) {
    if (!file->empty() && access(file->c_str(), R_OK) != 0)
      return absl::InvalidArgumentError(
          absl::StrCat("guards.", name, ": ", *file, " cannot be read"));
  }
  return std::unique_ptr<ChainLink>(std::make_unique<HttpLink>(name, settings));
}

}  // namespace penstock
