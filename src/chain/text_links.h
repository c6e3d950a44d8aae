// The links that look at texts both ways: ban (words and patterns, in linear time) and lang (scripts).
// Own their compiled patterns. Must not know requests' other fields.
// Threads: thread-safe.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "chain/link.h"

namespace penstock {

/// INVALID_ARGUMENT names the pattern that RE2 does not take.
absl::StatusOr<std::unique_ptr<ChainLink>> MakeBanLink(const std::string& name,
                                                       const GuardEntry& settings);
/// INVALID_ARGUMENT names the script that ICU does not know.
absl::StatusOr<std::unique_ptr<ChainLink>> MakeLangLink(const std::string& name,
                                                        const GuardEntry& settings);

}  // namespace penstock
