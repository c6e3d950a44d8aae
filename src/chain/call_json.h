// A call as the JSON that scripts and call-outs see and change, whatever wire it came by.
// Owns nothing. Must not know wires; who changes messages or tools has them checked (ReadChatField).
// Threads: any.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "penstock/service.h"

namespace penstock {

/// {"model": ..., "messages": [...] or "prompt": text, ids or a list of such, "max_tokens": ...}:
/// fields by their names of /v1/chat/completions, those that the request has.
nlohmann::ordered_json CallToJson(const GenerationCall& call);

/// Puts into `call` what `json` has and takes out what it has not. "" or what is wrong with it.
std::string CallFromJson(const nlohmann::ordered_json& json, GenerationCall& call);

}  // namespace penstock
