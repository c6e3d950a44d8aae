// What a generation_config.json says: the sampling values of requests that are silent, and the
// tokens that end an answer.
// Owns nothing. Must not know directories or engines.
// Threads: n/a; pure functions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "penstock/service.h"

namespace penstock {

/// `object` in the ranges that requests have. INVALID_ARGUMENT names `path`, the key and what was
/// expected.
absl::StatusOr<GenerationDefaults> ReadGenerationDefaults(const nlohmann::json& object,
                                                          const std::string& path);

/// Its "eos_token_id", an id or a list of them, which a config.json may have as well; those below 0
/// stand for no token. INVALID_ARGUMENT as above.
absl::Status ReadEosTokenIds(const nlohmann::json& object, const std::string& path,
                             std::vector<TokenId>& out);

}  // namespace penstock
