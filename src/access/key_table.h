// The API keys of the state file, ready to be looked up.
// Owns digests, never keys. Must not know files or protocols.
// Threads: immutable.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "access/ip_address.h"
#include "access/principal.h"
#include "access/role_table.h"

namespace penstock {

struct KeyRecord {
  std::string id;
  std::string digest;  // HMAC-SHA256 of the secret under the pepper
  std::string tenant;
  std::vector<std::string> roles;
  std::vector<std::string> models;  // that it may use; empty: all of its tenant
  std::vector<std::string> cidrs;   // where it may be used; empty: anywhere
  absl::Time created;
  absl::Time expires = absl::InfiniteFuture();
  absl::Time revoked = absl::InfiniteFuture();
  std::string note;
};
/// How many of them are valid.
int CountBreakGlassKeys(const std::vector<KeyRecord>& records, absl::Time now);

using KeyRecords = std::shared_ptr<const std::vector<KeyRecord>>;

class KeyTable {
 public:
  /// A record that is damaged admits nobody.
  KeyTable(KeyRecords records, std::string pepper, const RoleTable& roles);

  struct Result {
    PrincipalPtr principal;    // null: turned away
    Refusal refusal;           // why
    const char* message = "";  // in words for the caller
  };
  Result Find(std::string_view text, const IpAddress& address, absl::Time now) const;
  const KeyRecords& records() const { return records_; }

 private:
  struct Entry {
    std::string digest;
    PrincipalPtr principal;
    absl::Time expires, revoked;
    std::vector<IpRange> ranges;
  };
  KeyRecords records_;
  std::string pepper_;
  absl::flat_hash_map<std::string, Entry> entries_;  // by id
};

}  // namespace penstock
