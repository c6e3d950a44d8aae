// Who makes a call, once that is proved.
// Owns its strings. Must not know how credentials look or what routes exist.
// Threads: immutable, shared by the calls of one caller.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "access/permission.h"

namespace penstock {

enum class Proof : uint8_t {
  kNone,         // nothing is asked for: the anonymous tenant
  kSharedKey,    // auth.api_key_file, --api-key, PENSTOCK_API_KEY
  kApiKey,       // a key of the state file
  kToken,        // a signed token of an issuer
  kCertificate,  // of the TLS connection
  kSocket,       // the file permissions of the admin socket
};
std::string_view NameOf(Proof proof);

struct Principal {
  std::string tenant;
  std::vector<std::string> roles;
  std::vector<std::string> models;  // that it may use, of those of its tenant; empty: all of them
  std::string key_id;  // of a key; a token's subject; a certificate's name; empty: none
  std::string owner;   // what this caller keeps on the server (responses, repeated answers) is its
  Proof proof = Proof::kNone;
  Permissions permissions;

  bool may(Permission permission) const { return permissions.has(permission); }
};

/// What a tenant may be called: 1 to 128 printable characters without space, comma and quotes.
bool IsTenantName(std::string_view name);

using PrincipalPtr = std::shared_ptr<const Principal>;

/// The tenant of keys that are made in an emergency, and of nobody else.
inline constexpr char kBreakGlassTenant[] = "break-glass";
/// The tenant of callers who need no credential, and that of keys which name none.
inline constexpr char kAnonymousTenant[] = "anonymous";
inline constexpr char kSharedKeyTenant[] = "default";

}  // namespace penstock
