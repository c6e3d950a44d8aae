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
/// Makes what follows from a configuration, or refuses it; calling the result puts it in force.
using PrepareConfigFn = std::function<absl::StatusOr<std::function<void()>>(const ServerConfig&)>;

class ConfigReload {
 public:
  /// `read` makes what a start would make now, validated. All outlive this.
  ConfigReload(ReadConfigFn read, PrepareConfigFn prepare, Live<ServerConfig>* config,
               Catalogue* catalogue);

  /// Reads again and replaces the configuration. The old one stays after an error: INVALID_ARGUMENT
  /// for one that a start would refuse, FAILED_PRECONDITION `restart_required: <keys>`.
  /// `cause` is for the log.
  absl::Status Reload(const std::string& cause);

 private:
  absl::Status Take(const std::string& cause);

  const ReadConfigFn read_;
  const PrepareConfigFn prepare_;
  Live<ServerConfig>* const config_;
  Catalogue* const catalogue_;
  std::mutex mutex_;  // one reload at a time
};

}  // namespace penstock
