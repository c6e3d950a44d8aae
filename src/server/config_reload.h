// Takes a changed configuration into a running server: all of it, or nothing.
// Owns nothing but the lock. Must not know where a configuration is read from.
// Threads: thread-safe.
#pragma once

#include <functional>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/live.h"
#include "metrics/catalogue.h"
#include "penstock/config.h"

namespace penstock {

using ReadConfigFn = std::function<absl::StatusOr<ServerConfig>()>;
/// Puts in force what follows from a configuration; an error leaves everything as it was.
using TakeConfigFn = std::function<absl::Status(const ServerConfig&)>;

class ConfigReload {
 public:
  /// `read` makes what a start would make now, validated. All outlive this.
  ConfigReload(ReadConfigFn read, TakeConfigFn take, Live<ServerConfig>* config,
               Catalogue* catalogue);

  /// Reads again and replaces the configuration. The old one stays after an error: INVALID_ARGUMENT
  /// for one that a start would refuse, FAILED_PRECONDITION `restart_required: <keys>`.
  /// `cause` is for the log.
  absl::Status Reload(const std::string& cause);

 private:
  absl::Status Take(const std::string& cause);

  const ReadConfigFn read_;
  const TakeConfigFn take_;
  Live<ServerConfig>* const config_;
  Catalogue* const catalogue_;
  std::mutex mutex_;  // one reload at a time
};

}  // namespace penstock
