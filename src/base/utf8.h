// UTF-8: decode, encode, validate, repair.
// Owns nothing. Must not know the domain.
// Threads: n/a; pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace penstock {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;
inline constexpr std::string_view kReplacementUtf8 = "\xEF\xBF\xBD";

/// One step of decoding. Where `valid` is false, `length` bytes (at least 1) are the longest start
/// of a code point that is there (a "maximal subpart", Unicode 15 section 3.9) and together become
/// one U+FFFD.
struct DecodedCodePoint {
  char32_t value = kReplacementCharacter;
  size_t length = 1;  // bytes
  bool valid = false;
  bool truncated = false;  // not valid only because the text ends here
};

/// Decodes at `pos`, which must be inside the text.
DecodedCodePoint DecodeUtf8(std::string_view text, size_t pos);

/// Appends the bytes of `code_point`; surrogates and values above U+10FFFF become U+FFFD.
void AppendUtf8(char32_t code_point, std::string* out);
std::string EncodeUtf8(char32_t code_point);

bool IsValidUtf8(std::string_view text);

/// Each maximal invalid part becomes one U+FFFD; valid text comes back unchanged.
std::string RepairUtf8(std::string_view text);

/// The number of bytes at the end that start a code point whose rest is missing: 0 to 3.
size_t IncompleteUtf8Suffix(std::string_view text);

/// The start of a text: at most so many bytes, and no part of a character that begins there.
std::string_view Utf8Prefix(std::string_view text, size_t max_bytes);

/// Code points of a text; invalid parts are U+FFFD.
std::u32string ToCodePoints(std::string_view text);
std::string FromCodePoints(std::u32string_view code_points);

/// Code points in a text, invalid parts counting as one each.
size_t CountCodePoints(std::string_view text);

}  // namespace penstock
