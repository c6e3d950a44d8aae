// How far something that takes long has come.
// Owns nothing. Must not know what it is.
// Threads: called on the thread of what takes long.
#pragma once

#include <cstdint>
#include <functional>

namespace penstock {

/// Told now and then how many steps of how many are done; may be null.
using StepProgress = std::function<void(int64_t done, int64_t total)>;

}  // namespace penstock
