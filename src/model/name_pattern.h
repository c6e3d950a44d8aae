// A pattern of layer names in a quantization_config: "re:" and an expression that matches from the
// name's start, or dotted parts, where "*" is any part, that a name contains side by side.
// Owns the compiled expression. Must not know what is done with a match.
// Threads: immutable.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/regex.h"

namespace penstock {

class NamePattern {
 public:
  /// INVALID_ARGUMENT where `text` is longer than 1024 bytes or its expression cannot be compiled.
  static absl::StatusOr<NamePattern> Parse(std::string_view text);

  /// `name` is UTF-8. False as well where matching takes more than a fixed number of steps.
  bool Matches(std::string_view name) const;
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  std::vector<std::string> parts_;
  std::optional<Regex> expression_;  // none: parts_
};

}  // namespace penstock
