// The text of string literals.
// Owns nothing. Must not know tags.
// Threads: n/a; pure functions.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace penstock::jinja {

/// What str.isspace() accepts.
bool IsPythonSpace(char32_t c);

/// Replaces Python's escapes; unknown ones stay as they are.
absl::StatusOr<std::string> UnescapeString(std::string_view literal);

}  // namespace penstock::jinja
