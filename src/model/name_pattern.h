// A pattern of layer names in a quantization_config: "re:" and an expression that matches from the
// name's start, or dotted parts, where "*" is any part, that a name contains side by side.
// Owns the compiled expression. Must not know what is done with a match.
// Threads: immutable.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace penstock {

class NamePattern {
 public:
  /// INVALID_ARGUMENT where `text` is longer than 1024 bytes or its expression cannot be compiled.
  static absl::StatusOr<NamePattern> Parse(std::string_view text);

  /// INVALID_ARGUMENT where matching takes more than a fixed number of steps.
  absl::StatusOr<bool> Matches(std::string_view name) const;
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  std::vector<std::string> parts_;
  std::shared_ptr<const void> expression_;  // pcre2_code; null: parts_
};

}  // namespace penstock
