// The content blocks and tools of /v1/messages -> messages and functions as templates know them.
// Owns nothing. Must not know models or sockets.
// Threads: thread-safe.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "absl/status/status.h"
#include "penstock/service.h"

namespace penstock {

/// A string, or text blocks, which are joined.
absl::Status ReadMessagesText(const std::string& at, nlohmann::ordered_json& value,
                              std::string& text);

/// What one turn says, called and got back: further messages. Texts and calls of one role in a row
/// become one message, each result of a tool is one. INVALID_ARGUMENT names the block.
absl::Status ReadMessagesTurn(const std::string& at, const std::string& role,
                              nlohmann::ordered_json& content, nlohmann::ordered_json& messages);

/// {"name", "description", "input_schema"}
absl::Status ReadMessagesTools(const nlohmann::ordered_json& value, GenerationCall& call);

/// {"type": "auto" | "any" | "tool" | "none", "name", "disable_parallel_tool_use"}
absl::Status ReadMessagesToolChoice(const nlohmann::ordered_json& value, GenerationCall& call);

}  // namespace penstock
