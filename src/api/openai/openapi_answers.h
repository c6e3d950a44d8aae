// What /openapi.json says beside the table of request fields: answers, and routes without a
// body.
// Owns nothing. Must not know how calls are served.
// Threads: thread-safe.
#pragma once

#include <nlohmann/json.hpp>

#include "absl/types/span.h"

namespace penstock {

struct OpenApiRoute {
  const char* path;
  const char* method;  // lower case
  const char* summary;
  const char* answer;           // a schema of OpenApiAnswers; null: no JSON
  const char* query = nullptr;  // parameters of it, a JSON array; null: none
};

absl::Span<const OpenApiRoute> OpenApiRoutes();

/// The schemas by name.
nlohmann::ordered_json OpenApiAnswers();

}  // namespace penstock
