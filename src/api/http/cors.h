// Which pages of other origins may read answers (the Fetch standard's CORS).
// Owns nothing. Must not know routes or sockets.
// Threads: thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "api/http/message.h"

namespace penstock {

/// Adds what every answer to a page of `origin` says; `origins` lists who may read, "*" everyone,
/// and is empty where nobody may. Credentials of the browser are never asked for. True where the
/// page may read.
bool AppendCorsHeaders(const std::vector<std::string>& origins, std::string_view origin,
                       HttpHeaders& headers);

/// Adds what the answer to a preflight says: the route's methods, and the headers that the page
/// asked for, as far as they are header names.
void AppendPreflightHeaders(std::string_view methods, std::string_view requested_headers,
                            HttpHeaders& headers);

}  // namespace penstock
