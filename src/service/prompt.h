// From a call's prompt or messages to token ids.
// Owns nothing. Must not know engines' queues or the wire.
// Threads: thread-safe; long for long texts, so on a text worker only.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "penstock/service.h"

namespace penstock {

/// One list of ids per prompt (one for a chat), each at least one id and all in the vocabulary.
/// INVALID_ARGUMENT names the field at fault.
absl::StatusOr<std::vector<std::vector<TokenId>>> BuildPrompts(const GenerationCall& call,
                                                               const ServedModel& model);

/// The text of a chat as the template makes it.
absl::StatusOr<std::string> RenderChat(const GenerationCall& call, const ServedModel& model);

}  // namespace penstock
