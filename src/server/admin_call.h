// One call to the admin listener of a running server.
// Owns nothing. Must not know what the routes do.
// Threads: any; blocks.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace penstock {

/// The body of a 2xx answer. UNAVAILABLE where nobody listens on the socket; else the server's own
/// words.
absl::StatusOr<std::string> CallAdmin(const std::string& socket, const std::string& method,
                                      const std::string& path, const std::string& body);

}  // namespace penstock
