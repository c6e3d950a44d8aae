// What a chat hands to its template: messages, tools, documents and further arguments, checked in
// their form. The same for every front end.
// Owns nothing. Must not know templates, models or where the JSON came from.
// Threads: thread-safe; long for long chats, so on a text worker only.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "penstock/service.h"

namespace penstock {

/// True of `messages`, `tools`, `documents` and `chat_template_kwargs`.
bool IsChatField(std::string_view name);

/// Makes one string of an array of text parts, a line each. INVALID_ARGUMENT names the part.
absl::Status JoinTextParts(nlohmann::ordered_json& content, const std::string& at);

/// Checks the form of such a field and moves it into `call`. Text parts of messages are joined, so
/// that templates see strings. INVALID_ARGUMENT names the entry at fault: messages[0].content[1].
absl::Status ReadChatField(std::string_view name, nlohmann::ordered_json& value,
                           GenerationCall& call);

}  // namespace penstock
