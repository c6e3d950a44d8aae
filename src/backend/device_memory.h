// How much memory a device has, and how much of it is free now, whoever has the rest.
// Owns nothing. Must not know what it is for.
// Threads: value.
#pragma once

#include <cstdint>

namespace penstock {

struct DeviceMemory {
  int64_t free = 0;
  int64_t total = 0;  // 0: it has none of its own
};

}  // namespace penstock
