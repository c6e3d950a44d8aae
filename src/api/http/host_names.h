// Whether the Host of a request is a name of this server. A page whose name was pointed at this
// machine after it was loaded (DNS rebinding) still says its own name there.
// Owns nothing. Must not know routes or sockets.
// Threads: thread-safe.
#pragma once

#include <string_view>

#include "penstock/config.h"

namespace penstock {

/// `host`: as the header has it, with or without a port; empty: there was none, and no browser asks.
/// True of localhost, names under it, addresses (which no name server can point elsewhere), and what
/// server.allowed_hosts lists. Without a list only a server on loopback that asks for no credential
/// judges at all.
bool IsAllowedHost(const ServerConfig& config, std::string_view host);

}  // namespace penstock
