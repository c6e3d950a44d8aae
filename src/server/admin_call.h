// One call to the admin listener of a running server, and what commands say of it.
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

/// A name as a part of a path.
std::string PathSegment(const std::string& text);
/// Says on stderr what went wrong; the exit code of it.
int AdminFailure(const absl::Status& status);

}  // namespace penstock
