#include "service/api_keys.h"

#include "absl/strings/match.h"
#include "base/strings.h"

namespace penstock {
namespace {

bool SameKey(std::string_view given, std::string_view key) {
  unsigned difference = given.size() != key.size();
  for (size_t i = 0; i < given.size(); ++i) {
    difference |= static_cast<unsigned char>(given[i]) ^
                  static_cast<unsigned char>(key.empty() ? 0 : key[i % key.size()]);
  }
  return difference == 0;
}

}  // namespace

absl::Status ApiKeys::Check(std::string_view credential) const {
  if (open()) return absl::OkStatus();
  constexpr std::string_view kBearer = "bearer ";
  if (absl::StartsWithIgnoreCase(ToAbsl(credential), ToAbsl(kBearer)))
    credential.remove_prefix(kBearer.size());
  while (credential.starts_with(' ')) credential.remove_prefix(1);
  if (credential.empty())
    return absl::UnauthenticatedError("an API key is needed: Authorization: Bearer <key>");
  bool found = false;
  for (const std::string& key : keys_) found |= SameKey(credential, key);
  return found ? absl::OkStatus() : absl::UnauthenticatedError("the API key is not known");
}

}  // namespace penstock
