// What a function may be called, and white space around names.
// Owns nothing. Must not know formats.
// Threads: n/a.
#pragma once

#include <string_view>

#include "absl/strings/ascii.h"

namespace penstock {

inline bool IsSpaceByte(char c) { return absl::ascii_isspace(static_cast<unsigned char>(c)); }

inline std::string_view TrimmedText(std::string_view text) {
  while (!text.empty() && IsSpaceByte(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpaceByte(text.back())) text.remove_suffix(1);
  return text;
}

/// Letters, digits and _-.:/, at most 128.
inline bool IsFunctionName(std::string_view name) {
  constexpr size_t kMostName = 128;
  if (name.empty() || name.size() > kMostName) return false;
  for (const char c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) &&
        std::string_view("_-.:/").find(c) == std::string_view::npos)
      return false;
  }
  return true;
}

}  // namespace penstock
