// Which chat template a model directory means, chosen as transformers does.
// Owns the compiled templates. Must not know requests or the wire.
// Threads: immutable.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "text/chat_template.h"

namespace penstock {

struct ChatTemplates {
  std::unique_ptr<ChatTemplate> plain;       // nullptr: none
  std::unique_ptr<ChatTemplate> with_tools;  // where a request has tools; nullptr: `plain`
};

/// From `file` where it is not empty; else from chat_template.jinja and additional_chat_templates/
/// of `dir`, chat_template.json, or the "chat_template" of `tokenizer_config`: a text, or a list of
/// {name, template} of which "default" and "tool_use" count. NOT_FOUND where `file` cannot be read,
/// INVALID_ARGUMENT with the name, line and column where a template does not parse.
absl::StatusOr<ChatTemplates> LoadChatTemplates(const std::string& dir,
                                                const nlohmann::json& tokenizer_config,
                                                const std::string& file);

}  // namespace penstock
