// Key sets of token issuers that are fetched from their URLs: again every few minutes, and soon after
// a token has named a key that is not known.
// Owns the texts that were fetched last and were sound; each counts for a day. Must not know how a
// URL is fetched, or tokens.
// Threads: thread-safe; Check is confined to one thread and waits for the network.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "access/key_source.h"
#include "base/clock.h"

namespace penstock {

/// The text behind a URL; blocks, and ends in time.
using FetchFn = std::function<absl::StatusOr<std::string>(const std::string& url)>;

class RemoteKeySets {
 public:
  RemoteKeySets(const std::vector<std::string>& urls, FetchFn fetch, const Clock* clock,
                AccessLog log);
  /// Fetches what is due.
  void Check();
  /// None where nothing sound was fetched in the last day.
  std::optional<std::string> TextOf(const std::string& url) const;
  /// Differs once any text is another one.
  uint64_t version() const;
  /// A token names a key that the set lacks: it is fetched at the next Check, but not within seconds
  /// of the last time. True: that is due.
  bool Want(const std::string& url);

 private:
  struct Remote {
    std::string text;
    absl::Time fetched = absl::InfinitePast();  // when `text` was
    absl::Time due = absl::InfinitePast();      // the next try
    absl::Time tried = absl::InfinitePast();
    std::string complaint;  // that the log knows
  };
  void Fetch(const std::string& url);

  const FetchFn fetch_;
  const Clock& clock_;
  const AccessLog log_;
  mutable std::mutex mutex_;
  std::map<std::string, Remote> remotes_;  // guarded by mutex_
  uint64_t version_ = 0;                   // likewise
};

}  // namespace penstock
