// The links that look at a request alone: schema, limit, template and trim.
// Own nothing. Must not know answers.
// Threads: thread-safe.
#pragma once

#include <memory>

#include "chain/link.h"

namespace penstock {

/// `settings.use` is one of the four.
std::unique_ptr<ChainLink> MakeRequestLink(const std::string& name, const GuardEntry& settings);

}  // namespace penstock
