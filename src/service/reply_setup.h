// What a stream keeps apart from a chat's text, and what that text must look like.
// Owns nothing. Must not know the wire.
// Threads: thread-safe; CompileReply takes up to a second, so on a text worker only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "penstock/grammar.h"
#include "penstock/service.h"
#include "service/response_stream.h"

namespace penstock {

/// `prompt`: the chat's tokens, whose end may have begun the reasoning.
void SetReply(const GenerationCall& call, const ServedModel& model,
              const std::vector<TokenId>& prompt, StreamSetup& setup);

/// The grammar of the whole reply, after SetReply; null where anything goes. INVALID_ARGUMENT names
/// the field that cannot be kept. `warnings` takes what was left out of schemas that are not strict.
absl::StatusOr<std::shared_ptr<const TokenGrammar>> CompileReply(
    const GenerationCall& call, const ServedModel& model, const StreamSetup& setup,
    std::vector<std::string>* warnings);

}  // namespace penstock
