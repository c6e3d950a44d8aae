#include "access/principal.h"

#include <algorithm>

namespace penstock {

std::string_view NameOf(Proof proof) {
  switch (proof) {
    case Proof::kNone:
      return "none";
    case Proof::kSharedKey:
      return "shared_key";
    case Proof::kApiKey:
      return "api_key";
    case Proof::kToken:
      return "token";
    case Proof::kCertificate:
      return "certificate";
    case Proof::kSocket:
      return "socket";
  }
  return "";
}

bool IsTenantName(std::string_view name) {
  return !name.empty() && name.size() <= 128 &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return c > ' ' && c < 0x7f && c != '"' && c != '\\' && c != ',';
         });
}

}  // namespace penstock
