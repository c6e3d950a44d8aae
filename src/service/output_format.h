// The fields that say what an answer must look like: JSON, a schema, an expression, a grammar.
// Owns nothing. Must not know how grammars work, or where the JSON came from.
// Threads: thread-safe.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "absl/status/status.h"
#include "penstock/service.h"

namespace penstock {

/// True of `response_format`, `structured_outputs` and the older `guided_*`.
bool IsFormatField(std::string_view name);

/// Reads such a field into `call`. INVALID_ARGUMENT names the part at fault, and refuses a second
/// format beside a first.
absl::Status ReadFormatField(std::string_view name, const nlohmann::ordered_json& value,
                             GenerationCall& call);
/// {"type": "json_schema", "schema": {...}} without a further level, as /v1/responses and
/// /v1/messages have it; `at` is where it lies.
absl::Status ReadFlatFormat(std::string_view at, const nlohmann::ordered_json& value,
                            GenerationCall& call);

}  // namespace penstock
