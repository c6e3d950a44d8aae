// What a call consists of: the names of its fields, and a digest of all that its answer depends on.
// Owns nothing. Must not know who asks.
// Threads: any.
#pragma once

#include <string>
#include <vector>

#include "penstock/service.h"

namespace penstock {

/// As /v1/chat/completions, /v1/completions and the .proto name them.
std::vector<std::string> FieldsOf(const GenerationCall& call);

/// Whether the same call gives the same answer: temperature 0 or a seed, and nothing but text is
/// asked for. What is under a grammar or of an adapter is not.
bool IsRepeatable(const GenerationCall& call, const ServedModel& model);

/// Equal for calls of `owner` that ask the same of the same model.
std::string CallKey(const GenerationCall& call, const ServedModel& model, std::string_view owner);

}  // namespace penstock
