// From a call's prompt or messages to token ids.
// Owns nothing. Must not know engines' queues or the wire.
// Threads: thread-safe; long for long texts, so on a text worker only.
#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "penstock/service.h"

namespace penstock {

/// One list of ids per prompt (one for a chat), each at least one id and all in the vocabulary.
/// INVALID_ARGUMENT names the field at fault.
absl::StatusOr<std::vector<std::vector<TokenId>>> BuildPrompts(const GenerationCall& call,
                                                               const ServedModel& model);

/// At least one id, all in the vocabulary; else INVALID_ARGUMENT with the field's name.
absl::Status CheckIds(const std::vector<TokenId>& ids, const ServedModel& model,
                      std::string_view field);

/// The text of a chat as the template makes it.
absl::StatusOr<std::string> RenderChat(const GenerationCall& call, const ServedModel& model);

}  // namespace penstock
