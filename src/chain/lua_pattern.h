// Lua's patterns, matched in linear time: each becomes an expression of RE2 that finds the same.
// Owns nothing. Must not know Lua's states.
// Threads: any.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace penstock {

struct LuaPattern {
  std::string expression;       // for RE2 with Latin-1 and dot_nl
  bool anchored = false;        // begins with ^
  std::vector<bool> positions;  // per capture: () gives its place
};

/// INVALID_ARGUMENT for what is no pattern, and for %b, %f and %1, which no linear matcher has.
absl::StatusOr<LuaPattern> TranslateLuaPattern(std::string_view pattern);

}  // namespace penstock
