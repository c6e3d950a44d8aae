// What a fault that NVIDIA's driver reports (Xid) means, and what an operator does about it.
// Owns nothing. Must not know who tells it.
// Threads: thread-safe.
#pragma once

#include <cstdint>
#include <string_view>

namespace penstock {

struct XidMeaning {
  std::string_view what;
  std::string_view what_to_do;
};

/// Of the driver's number.
XidMeaning MeaningOfXid(int64_t xid);

}  // namespace penstock
