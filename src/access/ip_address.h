// Addresses of clients, and ranges of them.
// Owns nothing. Must not know sockets.
// Threads: values.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace penstock {

/// IPv6, or IPv4 mapped into it (::ffff:a.b.c.d).
struct IpAddress {
  std::array<uint8_t, 16> bytes{};

  bool is_v4() const;
  bool loopback() const;
  /// "10.0.0.1", "2001:db8::1"; none for anything else.
  static std::optional<IpAddress> Parse(std::string_view text);
  /// As gRPC names a peer: "ipv4:10.0.0.1:80", "ipv6:%5B::1%5D:80".
  static std::optional<IpAddress> ParsePeer(std::string_view uri);
  friend bool operator==(const IpAddress&, const IpAddress&) = default;
};

class IpRange {
 public:
  /// "10.0.0.0/8", "2001:db8::/32" or one address. INVALID_ARGUMENT for others, and where bits are
  /// set beyond the prefix.
  static absl::StatusOr<IpRange> Parse(std::string_view text);
  bool Contains(const IpAddress& address) const;

 private:
  IpAddress base_;
  int num_bits_ = 128;
};

}  // namespace penstock
