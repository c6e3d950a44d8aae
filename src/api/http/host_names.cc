#include "api/http/host_names.h"

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "access/ip_address.h"
#include "base/strings.h"

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

bool AsksForNothing(const AuthSection& auth) {
  return auth.api_keys.empty() && auth.api_key_file.empty() && auth.key_file.pepper_file.empty() &&
         auth.jwt.empty() && auth.mtls.empty();
}

bool OnLoopback(std::string_view listener) {
  const size_t colon = listener.rfind(':');
  const bool in_brackets = listener.starts_with('[');
  const std::string_view name = in_brackets ? NameOf(listener) : listener.substr(0, colon);
  if (SameName(name, "localhost")) return true;
  const auto address = IpAddress::Parse(name);
  return address && address->loopback();
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
  const bool judges = !allowed.empty() || (AsksForNothing(config.auth) &&
                                           OnLoopback(config.server.public_listener.http));
  if (!judges || host.empty()) return true;
  const std::string_view name = NameOf(host);
  return IsLocalName(name) ||
         std::any_of(allowed.begin(), allowed.end(), [&](const std::string& one) {
           return one == "*" || SameName(NameOf(one), name);
         });
}

}  // namespace penstock
