// How long tests wait for what is to come.
// Owns nothing.
// Threads: none.
#pragma once

#include <chrono>

namespace penstock {

/// A guard against waiting for ever, and no bound: a busy machine with a sanitizer is slow.
inline constexpr std::chrono::seconds kPatience{120};

}  // namespace penstock
