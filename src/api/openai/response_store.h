// Answers of /v1/responses that were asked to be kept: to be read again, and gone on from.
// Owns them, bounded in bytes and in time. Must not know the wire's format.
// Threads: thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/expiring_map.h"
#include "base/live.h"
#include "base/siphash.h"
#include "penstock/config.h"

namespace penstock {

struct StoredResponse {
  std::string body;                                            // as it was answered
  std::shared_ptr<const nlohmann::ordered_json> conversation;  // messages, the answer's the last
  std::shared_ptr<const nlohmann::ordered_json> items;         // of its request's input
};

class ResponseStore {
 public:
  /// `config` outlives the store; its limits are those of the moment.
  ResponseStore(const Live<ServerConfig>* config, const Clock* clock);

  /// A response is found again only by the owner it was made for. A conversation longer
  /// than limits.max_body is not kept: going on from it would be asking more than a body may.
  void Put(std::string_view owner, std::string_view id, StoredResponse response);
  std::optional<StoredResponse> Find(std::string_view owner, std::string_view id);
  /// False where there is none.
  bool Erase(std::string_view owner, std::string_view id);

 private:
  Hash128 KeyOf(std::string_view owner, std::string_view id) const;

  const Live<ServerConfig>* const config_;
  const Clock* const clock_;
  const std::array<uint64_t, 2> secret_;
  std::mutex mutex_;  // guards from here
  ExpiringMap<Hash128, StoredResponse> responses_;
};

}  // namespace penstock
