// Parses JSON that comes from outside: bounded depth, no exceptions, no duplicate keys.
// Owns nothing. Must not know what the document means.
// Threads: value.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace penstock {

/// INVALID_ARGUMENT "<what>: ..." where `text` is not JSON, is nested deeper than 64 levels or
/// repeats a key.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, std::string_view what);

/// The bytes of a file; NOT_FOUND where it is absent, INVALID_ARGUMENT where it is larger than
/// `max_bytes`.
absl::StatusOr<std::string> ReadTextFile(const std::string& path, size_t max_bytes);

}  // namespace penstock
