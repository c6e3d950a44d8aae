#include "access/ip_address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/strings.h"

namespace penstock {
namespace {

constexpr std::array<uint8_t, 12> kMappedPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

}  // namespace

bool IpAddress::is_v4() const {
  return std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), bytes.begin());
}

bool IpAddress::loopback() const {
  if (is_v4()) return bytes[12] == 127;
  return std::all_of(bytes.begin(), bytes.end() - 1, [](uint8_t b) { return b == 0; }) &&
         bytes[15] == 1;
}

std::optional<IpAddress> IpAddress::Parse(std::string_view text) {
  const std::string copy(text);
  IpAddress out;
  if (inet_pton(AF_INET, copy.c_str(), out.bytes.data() + 12) == 1) {
    std::copy(kMappedPrefix.begin(), kMappedPrefix.end(), out.bytes.begin());
    return out;
  }
  if (inet_pton(AF_INET6, copy.c_str(), out.bytes.data()) == 1) return out;
  return std::nullopt;
}

std::optional<IpAddress> IpAddress::ParsePeer(std::string_view uri) {
  const size_t port = uri.rfind(':');
  if (port == uri.npos) return std::nullopt;
  if (uri.starts_with("ipv4:")) return Parse(uri.substr(5, port < 5 ? 0 : port - 5));
  if (!uri.starts_with("ipv6:") || port < 5) return std::nullopt;
  std::string_view host = uri.substr(5, port - 5);
  for (const std::string_view open : {"%5B", "["}) {
    if (host.starts_with(open)) host.remove_prefix(open.size());
  }
  for (const std::string_view close : {"%5D", "]"}) {
    if (host.ends_with(close)) host.remove_suffix(close.size());
  }
  return Parse(host.substr(0, host.find('%')));  // without a zone
}

absl::StatusOr<IpRange> IpRange::Parse(std::string_view text) {
  const auto wrong = [&] {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected addresses such as 10.0.0.0/8 or 2001:db8::/32, got '", ToAbsl(text), "'"));
  };
  const size_t slash = text.find('/');
  const std::optional<IpAddress> base = IpAddress::Parse(text.substr(0, slash));
  if (!base) return wrong();
  IpRange out;
  out.base_ = *base;
  const int offset = base->is_v4() ? 96 : 0;
  if (slash != text.npos) {
    int bits = 0;
    if (!absl::SimpleAtoi(ToAbsl(text.substr(slash + 1)), &bits) || bits < 0 || bits > 128 - offset)
      return wrong();
    out.num_bits_ = offset + bits;
  }
  for (int bit = out.num_bits_; bit < 128; ++bit) {
    if ((base->bytes[bit / 8] >> (7 - bit % 8) & 1) != 0) return wrong();
  }
  return out;
}

bool IpRange::Contains(const IpAddress& address) const {
  const int whole = num_bits_ / 8;
  if (std::memcmp(address.bytes.data(), base_.bytes.data(), whole) != 0) return false;
  const int rest = num_bits_ % 8;
  if (rest == 0) return true;
  return ((address.bytes[whole] ^ base_.bytes[whole]) >> (8 - rest)) == 0;
}

}  // namespace penstock
