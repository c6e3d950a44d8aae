// Single HTTP transfers by libcurl: a small document into memory, a large one into a file that
// resumes.
// Owns nothing between calls. Must not know the hub's layout.
// Threads: confined to the main thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock {

/// The body of a GET, at most `max_bytes`. `token`: bearer, not forwarded to other hosts.
absl::StatusOr<std::string> HttpGet(const std::string& url, const std::string& token,
                                    int64_t max_bytes);

/// Appends what is still missing of `url` to `path` (which may exist from an earlier try), until it
/// has `size` bytes.
/// `progress(bytes so far)` is called now and then.
absl::Status HttpDownload(const std::string& url, const std::string& token, const std::string& path,
                          int64_t size, const std::function<void(int64_t)>& progress);

}  // namespace penstock
