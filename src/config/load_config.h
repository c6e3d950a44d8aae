// From a file, the environment and the command line to one ServerConfig.
// Owns nothing. Must not know what the fields do.
// Threads: any.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "penstock/config.h"

namespace penstock {

/// Where values come from; later ones win: defaults, file, environment, assignments.
struct ConfigSources {
  std::string file_name;  // for messages; empty: no file
  std::string file_text;  // YAML
  std::vector<std::pair<std::string, std::string>>
      environment;                       // PENSTOCK_ENGINE_MAX_LEN=... and the like
  std::vector<std::string> assignments;  // engine.max_len=4096, models.chat.path=...
};

/// The merged tree. INVALID_ARGUMENT in one line: `file:line: engine.max_lenn: unknown key, did you
/// mean 'max_len'?`
absl::StatusOr<ServerConfig> LoadConfig(const ConfigSources& sources);

/// What no single field can say: combinations and addresses. `serving`: a model must be named.
absl::Status ValidateConfig(const ServerConfig& config, bool serving);

/// Every field with its default and documentation, as YAML: configs/reference.yaml.
std::string ReferenceYaml();
/// The same as a page: docs/configuration.md.
std::string ConfigMarkdown();

/// The variables of this process that begin with PENSTOCK_.
std::vector<std::pair<std::string, std::string>> PenstockEnvironment();

struct HostPort {
  std::string host;
  uint16_t port = 0;
  bool loopback() const;
};
/// "127.0.0.1:8000", "[::1]:8000", "localhost:0".
absl::StatusOr<HostPort> ParseHostPort(std::string_view text);

/// Whether routes ask for keys, tokens or certificates.
bool AsksForCredentials(const AuthSection& auth);

}  // namespace penstock
