// JSON that a client sent: strict, bounded in depth and in members per object.
// Owns nothing. Must not know fields.
// Threads: thread-safe.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "absl/status/statusor.h"

namespace penstock {

/// INVALID_ARGUMENT with line and column where `text` is no JSON, no UTF-8, too deep, or has an
/// object with too many members. `what` names it in the message.
absl::StatusOr<nlohmann::ordered_json> ParseWireJson(std::string_view text,
                                                     std::string_view what = "the body");

/// INVALID_ARGUMENT "<name> must be <expected>, got <type>".
absl::Status WrongJsonType(std::string_view name, std::string_view expected,
                           const nlohmann::ordered_json& value);

/// The same of an element of the field `name`, with its value where it is a number or a word:
/// "<name>[1] must be <expected>, got -1".
absl::Status WrongJsonItem(std::string_view name, size_t index, std::string_view expected,
                           const nlohmann::ordered_json& value);

}  // namespace penstock
