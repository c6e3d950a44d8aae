// How an API key is written: pst_<8 id>_<43 secret><6 CRC-32>, all in base 62.
// Owns its strings. Must not know tenants or where keys are kept.
// Threads: values.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace penstock {

struct KeyText {
  std::string_view id;      // public: names the key in lists and logs
  std::string_view secret;  // 256 random bits

  /// None for what is no key, or one that was mistyped. The views point into `text`.
  static std::optional<KeyText> Parse(std::string_view text);
  static bool LooksLikeOne(std::string_view text) { return text.starts_with("pst_"); }
};

/// A new key, which nobody can guess.
std::string MakeKeyText();

}  // namespace penstock
