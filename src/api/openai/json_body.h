// A request body as JSON: strict, bounded in depth and in members per object.
// Owns nothing. Must not know fields.
// Threads: thread-safe.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "absl/status/statusor.h"

namespace penstock {

/// INVALID_ARGUMENT with line and column where `text` is no JSON, no UTF-8, too deep, or has an
/// object with too many members.
absl::StatusOr<nlohmann::ordered_json> ParseJson(std::string_view text);

}  // namespace penstock
