// The chain of a configuration: its links, made and checked, and which of them a tenant's calls pass.
// Owns the links. Must not know calls.
// Threads: immutable; links are thread-safe.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "chain/link.h"
#include "penstock/config.h"

namespace penstock {

class Catalogue;

using Links = std::vector<std::shared_ptr<ChainLink>>;

class ChainSet {
 public:
  /// No links.
  ChainSet() = default;
  /// INVALID_ARGUMENT `guards.NAME.patterns: ...`. Links whose settings are those of `before` (null:
  /// none) are taken over with what they remember. `catalogue` null: nothing is counted. `log`: who
  /// is told of what happens apart from calls, on any thread.
  static absl::StatusOr<std::shared_ptr<const ChainSet>> Make(const ServerConfig& config,
                                                              Catalogue* catalogue,
                                                              const ChainSet* before,
                                                              const ChainLink::Log& log = nullptr);

  /// In the order of the request side.
  const Links& For(const std::string& tenant) const;

 private:
  std::map<std::string, std::shared_ptr<ChainLink>> links_;  // by name
  Links all_;                                                // of tenants without guards
  std::map<std::string, Links> tenants_;                     // by name; "*": all others
};

}  // namespace penstock
