// /openapi.json: the HTTP API as OpenAPI 3.1, made from the table of request fields.
// Owns nothing. Must not know how calls are served.
// Threads: thread-safe.
#pragma once

#include <string>
#include <string_view>

namespace penstock {

/// The whole document. `version`: of this server.
std::string OpenApiDocument(std::string_view version);

}  // namespace penstock
