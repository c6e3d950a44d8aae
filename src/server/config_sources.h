// Reads a configuration from a file, this process's environment and --set assignments.
// Owns nothing. Must not know what the fields do.
// Threads: confined to the main thread.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "penstock/config.h"

namespace penstock {

/// `file` may be empty. Keys of PENSTOCK_API_KEY and auth.api_key_file are in auth.api_keys
/// afterwards.
absl::StatusOr<ServerConfig> ReadConfig(const std::string& file,
                                        const std::vector<std::string>& assignments);

/// The files that ReadConfig has read for `config`: a change of any may change the configuration.
std::set<std::string> ConfigFiles(const std::string& file, const ServerConfig& config);

}  // namespace penstock
