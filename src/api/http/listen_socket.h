// Sockets to accept connections on: TCP, and files of this machine.
// Owns nothing. Must not know HTTP.
// Threads: any.
#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "access/ip_address.h"

namespace penstock {

using StreamSocket = boost::asio::generic::stream_protocol::socket;

inline constexpr char kUnixPrefix[] = "unix:";

struct BoundSocket {
  int descriptor = -1;  // the caller's
  int family = 0;       // AF_INET, AF_INET6, AF_UNIX
  int port = 0;         // 0: a file
};

/// host:port or unix:/path. A file is made for its owner alone; what a server that has ended left
/// behind is replaced, and one that listens is not. INVALID_ARGUMENT for a bad address, UNAVAILABLE
/// where it is taken.
absl::StatusOr<BoundSocket> BindSocket(const std::string& address);
/// Removes the file of an address that is one.
void RemoveSocketFile(const std::string& address);
/// Of the other side; none: a file.
IpAddress PeerAddress(const StreamSocket& socket);
bool IsUnixSocket(const StreamSocket& socket);

}  // namespace penstock
