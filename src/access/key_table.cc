#include "access/key_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "access/digest.h"
#include "access/key_text.h"

namespace penstock {

int CountBreakGlassKeys(const std::vector<KeyRecord>& records, absl::Time now) {
  return static_cast<int>(
      std::count_if(records.begin(), records.end(), [&](const KeyRecord& record) {
        return record.tenant == kBreakGlassTenant && record.expires > now && record.revoked > now;
      }));
}

KeyTable::KeyTable(KeyRecords records, std::string pepper, const RoleTable& roles)
    : records_(std::move(records)), pepper_(std::move(pepper)) {
  for (const KeyRecord& record : *records_) {
    Entry entry{record.digest, nullptr, record.expires, record.revoked, {}};
    bool sound = true;
    for (const std::string& cidr : record.cidrs) {
      const absl::StatusOr<IpRange> range = IpRange::Parse(cidr);
      sound = sound && range.ok();
      if (range.ok()) entry.ranges.push_back(*range);
    }
    if (!sound) continue;
    auto principal = std::make_shared<Principal>();
    principal->tenant = record.tenant;
    principal->roles = record.roles;
    principal->models = record.models;
    principal->key_id = record.id;
    principal->owner = absl::StrCat("tenant ", record.tenant);
    principal->proof = Proof::kApiKey;
    principal->permissions = roles.Of(record.roles);
    entry.principal = std::move(principal);
    entries_.emplace(record.id, std::move(entry));
  }
}

KeyTable::Result KeyTable::Find(std::string_view text, const IpAddress& address,
                                absl::Time now) const {
  const Result unknown = {nullptr, Refusal::kUnknown, "the API key is not known"};
  const std::optional<KeyText> key = KeyText::Parse(text);
  if (!key) return unknown;
  const auto it = entries_.find(std::string(key->id));
  if (it == entries_.end()) return unknown;
  const Entry& entry = it->second;
  if (!EqualSecrets(HmacSha256(pepper_, key->secret), entry.digest)) return unknown;
  if (entry.revoked <= now) return {nullptr, Refusal::kRevoked, "the API key is revoked"};
  if (entry.expires <= now) return {nullptr, Refusal::kExpired, "the API key has expired"};
  bool inside = entry.ranges.empty();
  for (const IpRange& range : entry.ranges) inside = inside || range.Contains(address);
  if (!inside) return {nullptr, Refusal::kAddress, "the API key may not be used from this address"};
  return {entry.principal, Refusal::kMissing, ""};
}

}  // namespace penstock
