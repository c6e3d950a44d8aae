// What /v1/responses is given: items of the conversation and tools -> messages and functions.
// Owns nothing. Must not know models or sockets.
// Threads: thread-safe.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "absl/status/status.h"
#include "penstock/service.h"

namespace penstock {

/// A text or items: messages, function_call, function_call_output and reasoning. What an assistant
/// says and calls in a row is one message. `items` takes them as they are listed later.
/// INVALID_ARGUMENT names the item.
absl::Status ReadResponseInput(nlohmann::ordered_json& value, nlohmann::ordered_json& messages,
                               nlohmann::ordered_json& items);

/// {"type": "function", "name", "description", "parameters", "strict"}, each a level deeper for the
/// call.
absl::Status ReadResponseTools(const nlohmann::ordered_json& value, GenerationCall& call);

}  // namespace penstock
