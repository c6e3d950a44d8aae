// Where the state of a server lies.
// Owns nothing. Must not know what is in it.
// Threads: any.
#pragma once

#include <filesystem>
#include <string>

#include "penstock/config.h"

namespace penstock {

inline std::string StateFile(const ServerSection& server) {
  return (std::filesystem::path(server.state_dir) / "state.db").string();
}

inline std::string AuditDir(const ServerSection& server) {
  return (std::filesystem::path(server.state_dir) / "audit").string();
}

}  // namespace penstock
