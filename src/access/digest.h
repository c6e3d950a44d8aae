// Digests of secrets.
// Owns nothing. Must not know what is hashed.
// Threads: any.
#pragma once

#include <string>
#include <string_view>

namespace penstock {

/// 32 bytes.
std::string Sha256(std::string_view bytes);
std::string HmacSha256(std::string_view key, std::string_view bytes);
/// Takes as long wherever two texts of one length differ.
bool EqualSecrets(std::string_view a, std::string_view b);
/// `size` bytes that nobody can guess.
std::string RandomSecret(size_t size);

}  // namespace penstock
