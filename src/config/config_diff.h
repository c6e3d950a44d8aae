// Two configurations beside each other: what a reload would change, and what only a restart can.
// Owns nothing. Must not know what the fields do.
// Threads: any.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "penstock/config.h"

namespace penstock {

/// Paths (ending in '.': all below; * is any name) whose change a running server takes; all others need a restart.
absl::Span<const std::string_view> LivePaths();
bool IsLivePath(std::string_view path);

/// Every field by its path (limits.max_n, models.chat.engine.max_len) as the file would write it.
/// Secrets are not fields.
std::map<std::string, std::string> ConfigValues(const ServerConfig& config);

struct ConfigChange {
  std::string path;
  std::string before, after;  // empty: not there
  bool live = false;          // a running server takes it
};
/// In the order of paths, behind them secrets: API keys count as one change of auth.api_keys, what
/// files of secrets hold as one of their paths, without their text.
std::vector<ConfigChange> ConfigChanges(const ServerConfig& before, const ServerConfig& after);

/// The same of two results of ConfigValues.
std::vector<ConfigChange> DifferentValues(const std::map<std::string, std::string>& before,
                                          const std::map<std::string, std::string>& after);

/// FAILED_PRECONDITION `restart_required: server.public.http, models.chat.path` where a change is
/// not live.
absl::Status CheckLive(absl::Span<const ConfigChange> changes);

/// 16 hexadecimal digits of all values: equal for equal ones. Secrets are left out: whoever sees the
/// hash could try them.
std::string ConfigHash(const ServerConfig& config);

/// JSON Schema (2020-12) of the file.
std::string ConfigJsonSchema();

}  // namespace penstock
