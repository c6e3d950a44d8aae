// Which functions a chat may call, and whether it must: tool_choice and the tools it speaks of.
// Owns nothing. Must not know formats of calls, or where the JSON came from.
// Threads: thread-safe.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "penstock/service.h"
#include "text/grammar/reply_grammar.h"

namespace penstock {

/// "none", "auto", "required", a function with a name, beside its type or a level deeper, or allowed
/// tools with a mode, the same.
/// INVALID_ARGUMENT for anything else.
absl::Status ReadToolChoice(std::string_view name, const nlohmann::ordered_json& value,
                            GenerationCall& call);

/// call.tools as far as the choice leaves them: what a template is shown.
nlohmann::ordered_json AllowedTools(const GenerationCall& call);

/// Whether the reply may hold calls.
bool MayCall(const GenerationCall& call);
/// Whether it must.
bool MustCall(const GenerationCall& call);

/// INVALID_ARGUMENT where a call is asked for that no tool can be.
absl::Status CheckToolChoice(const GenerationCall& call);

/// The functions that must be chosen from; one where it is named.
std::vector<FunctionSpec> FunctionsOf(const GenerationCall& call);

}  // namespace penstock
