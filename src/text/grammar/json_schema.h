// JSON Schema as a grammar of the JSON texts of its instances, members in the order of the schema.
// Owns nothing. Must not know tokens or requests.
// Threads: n/a; pure functions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "text/grammar/grammar.h"
#include "text/grammar/schema_formula.h"

namespace penstock::grammar {

/// Exact: every text that the grammar matches is an instance, and every instance has a text, with
/// the members that the schema lists in its order and others last. INVALID_ARGUMENT names the
/// path of what cannot be kept (unless `options` allows leaving it out), is malformed or can hold
/// for nothing; RESOURCE_EXHAUSTED that of what takes too much.
absl::StatusOr<Grammar> CompileJsonSchema(const nlohmann::ordered_json& schema,
                                          const SchemaOptions& options);

/// Any JSON object; with `any` any JSON value.
absl::StatusOr<Grammar> CompileJsonObject();

}  // namespace penstock::grammar
