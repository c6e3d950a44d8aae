// What an operator did to a running server, and how it went: for those who keep a record of it.
// Owns its strings. Must not know where it is written.
// Threads: value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "access/ip_address.h"
#include "access/principal.h"

namespace penstock {

struct OperatorAct {
  std::string_view action;  // a literal: key.create, drain, ...
  std::string object;       // what it was done to; empty: the server
  absl::Status outcome;
  PrincipalPtr by;              // null: nobody was asked for
  std::optional<uint32_t> uid;  // of the process at the other end of a socket of this machine
  IpAddress address;
  std::string reason = {};  // in the operator's words; empty: none is asked for
};

}  // namespace penstock
