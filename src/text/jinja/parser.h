// Parses a template; its own limits keep the tree shallow enough to walk by recursion.
// Owns nothing. Must not know evaluation.
// Threads: n/a; a pure function.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "text/jinja/ast.h"

namespace penstock::jinja {

inline constexpr size_t kMaxSourceBytes = 1 << 20;
inline constexpr int kMaxSyntaxDepth = 160;

/// INVALID_ARGUMENT "line L, column C: ..." for what is no template, or needs other templates.
absl::StatusOr<Program> ParseTemplate(std::string_view source);

}  // namespace penstock::jinja
