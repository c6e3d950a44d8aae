// A link that shows calls and answers to a service of the operator's, over HTTP.
// Owns its connections and what it knows of the service's health. Must not know the other links.
// Threads: thread-safe; a phase waits for the service, on the text worker that runs it.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "chain/link.h"

namespace penstock {

absl::StatusOr<std::unique_ptr<ChainLink>> MakeHttpLink(const std::string& name,
                                                        const GuardEntry& settings);

}  // namespace penstock
