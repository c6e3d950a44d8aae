// Whole answers by the digest of what was asked, within bounds of bytes and time.
// Owns the answers. Must not know what a key is made of; whoever makes it keeps tenants apart.
// Threads: thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/expiring_map.h"
#include "chain/link.h"
#include "penstock/service.h"

namespace penstock {

/// What is needed to give an answer again.
struct KeptAnswer {
  std::vector<Delta> choices;
  UsageTotals usage;
  std::vector<std::string> warnings;
};

class AnswerCache {
 public:
  AnswerCache(size_t max_bytes, absl::Duration ttl) : answers_(max_bytes, ttl) {}
  /// Null where there is none.
  std::shared_ptr<const KeptAnswer> Find(const std::string& key, absl::Time now) {
    const std::lock_guard lock(mutex_);
    const auto* found = answers_.Find(key, now);
    return found == nullptr ? nullptr : *found;
  }
  void Put(const std::string& key, std::shared_ptr<const KeptAnswer> answer, size_t bytes,
           absl::Time now) {
    const std::lock_guard lock(mutex_);
    answers_.Put(key, std::move(answer), bytes, now);
  }
  size_t bytes() {
    const std::lock_guard lock(mutex_);
    return answers_.bytes();
  }

 private:
  std::mutex mutex_;  // guards answers_
  ExpiringMap<std::string, std::shared_ptr<const KeptAnswer>> answers_;
};

/// A place in the chain: what comes before it sees every call, what comes after only those that are
/// not found.
class CacheLink final : public ChainLink {
 public:
  CacheLink(std::string name, const GuardEntry& settings)
      : ChainLink(std::move(name), settings),
        answers_(static_cast<size_t>(settings.memory) << 20, settings.ttl) {}
  AnswerCache* cache() override { return &answers_; }

 private:
  AnswerCache answers_;
};

}  // namespace penstock
