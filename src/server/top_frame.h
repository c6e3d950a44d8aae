// One screen of `penstock top`: two pages of metrics as lines of text.
// Owns nothing. Must not know terminals or how pages are got.
// Threads: thread-safe.
#pragma once

#include <string>
#include <vector>

#include "server/metrics_text.h"

namespace penstock {

/// Lines of at most `columns` characters; what is a rate is of the time between the two.
std::vector<std::string> TopFrame(const std::string& target, const MetricsText& before,
                                  const MetricsText& after, absl::Time now, size_t columns);

}  // namespace penstock
