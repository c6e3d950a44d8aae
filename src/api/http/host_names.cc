#include "api/http/host_names.h"

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "access/ip_address.h"
#include "base/strings.h"
#include "config/load_config.h"

namespace penstock {
namespace {

/// Without the port, and without the dot of a name that ends at the root; empty: it is no host.
std::string_view NameOf(std::string_view host) {
  if (host.starts_with('[')) {
    const size_t end = host.find(']');
    if (end == host.npos || (end + 1 < host.size() && host[end + 1] != ':')) return {};
    const std::string_view inside = host.substr(1, end - 1);
    return inside.find(':') == inside.npos ? std::string_view() : inside;
  }
  host = host.substr(0, host.find(':'));
  if (host.ends_with('.')) host.remove_suffix(1);
  return host;
}

bool IsAddress(std::string_view name) { return IpAddress::Parse(name).has_value(); }

bool SameName(std::string_view a, std::string_view b) {
  return absl::EqualsIgnoreCase(ToAbsl(a), ToAbsl(b));
}

bool OnLoopback(std::string_view listener) {
  const absl::StatusOr<HostPort> address = ParseHostPort(listener);
  return address.ok() && address->loopback();
}

bool IsLocalName(std::string_view name) {
  constexpr std::string_view kUnder = ".localhost";
  return SameName(name, "localhost") ||
         (name.size() > kUnder.size() &&
          SameName(name.substr(name.size() - kUnder.size()), kUnder)) ||
         IsAddress(name);
}

}  // namespace

bool IsAllowedHost(const ServerConfig& config, std::string_view host) {
  const std::vector<std::string>& allowed = config.server.allowed_hosts;
  const bool judges = !allowed.empty() || (!AsksForCredentials(config.auth) &&
                                           OnLoopback(config.server.public_listener.http));
  if (!judges || host.empty()) return true;
  const std::string_view name = NameOf(host);
  return IsLocalName(name) ||
         std::any_of(allowed.begin(), allowed.end(), [&](const std::string& one) {
           return one == "*" || SameName(NameOf(one), name);
         });
}

}  // namespace penstock
