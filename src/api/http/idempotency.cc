#include "api/http/idempotency.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "service/ids.h"

namespace penstock {
namespace {

constexpr size_t kMaxKeyBytes = 255;
constexpr size_t kEntryBytes = 512;  // about what an entry takes beside its answer
constexpr const char* kField = "Idempotency-Key";

}  // namespace

/// The exchange of one request that several clients wait for. Cancelled when all of them are gone.
class SharedExchange final : public HttpExchange,
                             public std::enable_shared_from_this<SharedExchange> {
 public:
  SharedExchange(std::shared_ptr<IdempotencyStore> store, Hash128 key,
                 std::shared_ptr<HttpExchange> first)
      : store_(std::move(store)), key_(key), first_(std::move(first)), members_{first_} {}
  ~SharedExchange() override {
    if (!response_) store_->Finish(key_, this, nullptr);  // its clients hear that it was dropped
  }

  HttpRequest& request() override { return first_->request(); }

  void Respond(HttpResponse response) override {
    std::vector<std::shared_ptr<HttpExchange>> members;
    std::function<void(CancelReason)> gone;  // destroyed outside the lock
    {
      std::lock_guard lock(mutex_);
      if (response_) return;
      for (const auto& header : headers_) response.headers.push_back(header);
      response_ = response;
      members.swap(members_);
      gone.swap(gone_);
    }
    store_->Finish(key_, this, response.status == 200 ? &response : nullptr);
    for (const auto& member : members) member->Respond(response);
  }
  void AddHeader(std::string name, std::string value) override {
    std::lock_guard lock(mutex_);
    headers_.emplace_back(std::move(name), std::move(value));
  }
  // Endpoints refuse to stream under a key (MayStream); nothing would be left to repeat.
  void StartStream(std::string_view, const HttpHeaders&) override {
    RespondError(*this, 500, "this answer cannot be streamed under an Idempotency-Key");
  }
  void Write(std::string_view) override {}
  void EndStream(bool) override {}
  bool started() const override {
    std::lock_guard lock(mutex_);
    return response_.has_value();
  }
  bool congested() override { return false; }
  void Watch(std::function<void(CancelReason)> gone, std::function<void()>) override {
    {
      std::lock_guard lock(mutex_);
      if (response_) return;
      if (!abandoned_) {
        gone_ = std::move(gone);
        return;
      }
    }
    gone(CancelReason::kDisconnect);
  }

  /// False where all clients were gone, so that the request is being cancelled.
  bool Join(const std::shared_ptr<HttpExchange>& member) {
    std::optional<HttpResponse> answer;
    {
      std::lock_guard lock(mutex_);
      if (abandoned_) return false;
      if (response_) {
        answer = response_;
      } else {
        members_.push_back(member);
      }
    }
    if (answer) {
      member->Respond(*std::move(answer));
    } else {
      WatchMember(*member);
    }
    return true;
  }

  /// Of the first, which is a member from the start; Join does it for the others.
  void WatchMember(HttpExchange& member) {
    member.Watch(
        [weak = weak_from_this(), who = &member](CancelReason reason) {
          if (const auto self = weak.lock()) self->Leave(who, reason);
        },
        [] {});
  }

 private:
  void Leave(const HttpExchange* who, CancelReason reason) {
    std::function<void(CancelReason)> gone;
    std::shared_ptr<HttpExchange> left;  // destroyed outside the lock
    {
      std::lock_guard lock(mutex_);
      for (auto it = members_.begin(); it != members_.end(); ++it) {
        if (it->get() != who) continue;
        left = std::move(*it);
        members_.erase(it);
        break;
      }
      if (!members_.empty() || response_) return;
      abandoned_ = true;
      gone.swap(gone_);
    }
    store_->Finish(key_, this, nullptr);
    if (gone) gone(reason);
  }

  const std::shared_ptr<IdempotencyStore> store_;
  const Hash128 key_;
  const std::shared_ptr<HttpExchange> first_;  // whose request is answered
  mutable std::mutex mutex_;                   // guards from here
  std::vector<std::shared_ptr<HttpExchange>> members_;
  HttpHeaders headers_;  // further ones of the answer
  std::optional<HttpResponse> response_;
  std::function<void(CancelReason)> gone_;
  bool abandoned_ = false;
};

IdempotencyStore::IdempotencyStore(const Live<ServerConfig>* config, const Clock* clock)
    : config_(config),
      clock_(clock),
      secret_{RandomBits(), RandomBits()},
      done_(0, absl::ZeroDuration()) {}

Endpoint IdempotencyStore::Wrap(std::shared_ptr<IdempotencyStore> store, Endpoint work) {
  return [store = std::move(store),
          work = std::move(work)](std::shared_ptr<HttpExchange> exchange) {
    const std::string& key = exchange->request().idempotency_key;
    const bool is_kept = store->config_->Get()->limits.idempotency_ttl > absl::ZeroDuration();
    if (key.empty() || !is_kept) return work(std::move(exchange));
    if (key.size() > kMaxKeyBytes) {
      return RespondError(
          *exchange, 400,
          absl::StrCat(kField, " has ", key.size(), " bytes, the most is ", kMaxKeyBytes), kField);
    }
    if (std::shared_ptr<HttpExchange> admitted = store->Admit(std::move(exchange)))
      work(std::move(admitted));
  };
}

std::shared_ptr<HttpExchange> IdempotencyStore::Admit(std::shared_ptr<HttpExchange> exchange) {
  while (true) {
    bool fresh = false;
    const std::shared_ptr<SharedExchange> shared = FindOrBegin(exchange, &fresh);
    if (shared == nullptr) return nullptr;
    if (fresh) {
      shared->WatchMember(*exchange);
      return shared;
    }
    if (shared->Join(exchange)) return nullptr;
    // It is being cancelled and has left the store: the next turn begins anew.
  }
}

std::shared_ptr<SharedExchange> IdempotencyStore::FindOrBegin(
    const std::shared_ptr<HttpExchange>& exchange, bool* fresh) {
  const HttpRequest& request = exchange->request();
  const Hash128 key = SipHash128(
      secret_, absl::StrCat(request.owner(), "\n", request.path, "\n", request.idempotency_key));
  const Hash128 body = SipHash128(secret_, request.body);
  std::shared_ptr<SharedExchange> running;  // destroyed outside the lock, which its end takes
  std::optional<HttpResponse> response;
  {
    std::lock_guard lock(mutex_);
    const Done* done = done_.Find(key, clock_->Now());
    if (done == nullptr) {
      Running& entry = running_[key];
      running = entry.exchange.lock();
      if (running == nullptr) {
        *fresh = true;
        running = std::make_shared<SharedExchange>(shared_from_this(), key, exchange);
        entry = {body, running};
      }
      if (entry.body == body) return running;
    } else if (done->body == body) {
      response = done->response;
    }
  }
  if (response) {
    response->headers.emplace_back("Idempotent-Replayed", "true");
    exchange->Respond(*std::move(response));
  } else {
    RespondError(
        *exchange, 400,
        "this Idempotency-Key came before with another body: a new request needs a new key",
        kField);
  }
  return nullptr;
}

void IdempotencyStore::Finish(const Hash128& key, const SharedExchange* who,
                              const HttpResponse* response) {
  const std::shared_ptr<const ServerConfig> config = config_->Get();
  std::shared_ptr<SharedExchange> running;  // destroyed outside the lock
  std::lock_guard lock(mutex_);
  const auto it = running_.find(key);
  if (it == running_.end()) return;
  running = it->second.exchange.lock();
  if (running != nullptr && running.get() != who) return;  // another has begun under the key
  const Hash128 body = it->second.body;
  running_.erase(it);
  if (response == nullptr) return;
  const LimitsSection& limits = config->limits;
  done_.SetBounds(static_cast<size_t>(limits.idempotency_memory.value), limits.idempotency_ttl);
  HttpResponse kept = *response;
  // What is left of limits is said of now.
  std::erase_if(kept.headers,
                [](const auto& header) { return header.first.starts_with("x-ratelimit-"); });
  const size_t bytes = kEntryBytes + kept.body.size();
  done_.Put(key, {body, std::move(kept)}, bytes, clock_->Now());
}

}  // namespace penstock
