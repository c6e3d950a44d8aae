// The byte-level alphabet of GPT-2: each byte has a printable code point, so that a vocabulary can
// be JSON strings.
// Owns nothing. Must not know tokens.
// Threads: n/a; pure functions.
#pragma once

#include <string>
#include <string_view>

namespace penstock::byte_level {

/// Code points of the alphabet lie below this.
inline constexpr char32_t kEnd = 0x144;

/// One code point per byte, as UTF-8.
std::string Encode(std::string_view bytes);
void AppendEncoded(std::string_view bytes, std::string* out);

/// The bytes of a token; where a code point is not of the alphabet, the token's own bytes.
std::string Decode(std::string_view token);

}  // namespace penstock::byte_level
