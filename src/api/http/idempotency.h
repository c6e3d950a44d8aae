// Requests with an Idempotency-Key: the same one again joins the first while it runs, and later
// gets its answer once more.
// Owns finished answers, bounded in bytes and in time; of requests only hashes under a random key.
// Must not know what endpoints do.
// Threads: thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "api/http/message.h"
#include "api/http/router.h"
#include "api/http/shared_exchange.h"
#include "base/clock.h"
#include "base/expiring_map.h"
#include "base/live.h"
#include "base/siphash.h"
#include "penstock/config.h"

namespace penstock {

class IdempotencyStore final : public std::enable_shared_from_this<IdempotencyStore> {
 public:
  /// `config` outlives the store; its limits are those of the moment.
  IdempotencyStore(const Live<ServerConfig>* config, const Clock* clock);

  /// An endpoint that answers requests with a key once: of the same credential, path and key, a
  /// different body is a 400. Only answers of status 200 are kept, so that what failed may be tried
  /// again. Requests without a key go on to `work` as they are.
  static Endpoint Wrap(std::shared_ptr<IdempotencyStore> store, Endpoint work);

 private:
  struct Running {
    Hash128 body;
    std::weak_ptr<SharedExchange> exchange;
  };
  struct Done {
    Hash128 body;
    HttpResponse response;
  };

  /// What `work` is to answer; null where the exchange has joined another or is answered.
  std::shared_ptr<HttpExchange> Admit(std::shared_ptr<HttpExchange> exchange);
  std::shared_ptr<SharedExchange> FindOrBegin(const std::shared_ptr<HttpExchange>& exchange,
                                              bool* fresh);
  void Finish(const Hash128& key, const SharedExchange* who, const HttpResponse* response);

  const Live<ServerConfig>* const config_;
  const Clock* const clock_;
  const std::array<uint64_t, 2> secret_;
  SharedBytes streams_;
  std::mutex mutex_;  // guards from here
  std::map<Hash128, Running> running_;
  ExpiringMap<Hash128, Done> done_;
};

}  // namespace penstock
