#include "api/http/idempotency.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "service/ids.h"

namespace penstock {
namespace {

constexpr size_t kMaxKeyBytes = 255;
constexpr size_t kEntryBytes = 512;  // about what an entry takes beside its answer
constexpr const char* kField = "Idempotency-Key";

}  // namespace

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
      shared->Begin();
      return shared;
    }
    if (shared->Join(exchange)) return nullptr;
    // It is being cancelled and has left the store: the next turn begins anew.
  }
}

std::shared_ptr<SharedExchange> IdempotencyStore::FindOrBegin(
    const std::shared_ptr<HttpExchange>& exchange, bool* fresh) {
  const HttpRequest& request = exchange->request();
  // Two keys of a tenant may not use the same models.
  const std::string key_id = request.principal == nullptr ? "" : request.principal->key_id;
  const Hash128 key =
      SipHash128(secret_, absl::StrCat(request.owner(), "\n", key_id, "\n", request.path, "\n",
                                       request.idempotency_key));
  const Hash128 body = SipHash128(secret_, request.body);
  streams_.most = static_cast<size_t>(config_->Get()->limits.idempotency_memory.value);
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
        running = std::make_shared<SharedExchange>(
            exchange, &streams_,
            [self = shared_from_this(), key](const SharedExchange* who,
                                             const HttpResponse* answer) {
              self->Finish(key, who, answer);
            });
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
