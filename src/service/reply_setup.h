// What a stream keeps apart from a chat's text.
// Owns nothing. Must not know the wire.
// Threads: thread-safe.
#pragma once

#include <vector>

#include "penstock/service.h"
#include "service/response_stream.h"

namespace penstock {

/// `prompt`: the chat's tokens, whose end may have begun the reasoning.
void SetReply(const GenerationCall& call, const ServedModel& model,
              const std::vector<TokenId>& prompt, StreamSetup& setup);

}  // namespace penstock
