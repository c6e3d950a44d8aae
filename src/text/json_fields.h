// Typed reads of the fields of a JSON object, with errors that name the field.
// Owns nothing. Must not know what the fields mean.
// Threads: n/a; pure functions.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace penstock::json_fields {

/// The member, or nullptr where it is absent or null, or `object` is no object.
const nlohmann::json* Find(const nlohmann::json& object, std::string_view key);

absl::StatusOr<std::string> String(const nlohmann::json& object, std::string_view key);
absl::StatusOr<std::string> StringOr(const nlohmann::json& object, std::string_view key,
                                     std::string_view absent);
absl::StatusOr<bool> BoolOr(const nlohmann::json& object, std::string_view key, bool absent);
/// An integer in [0, max].
absl::StatusOr<int64_t> Count(const nlohmann::json& object, std::string_view key, int64_t max);
/// An array; INVALID_ARGUMENT where it is absent or something else.
absl::StatusOr<const nlohmann::json*> Array(const nlohmann::json& object, std::string_view key);

}  // namespace penstock::json_fields
