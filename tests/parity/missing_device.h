// A test whose device is not there: it skips, or fails where PENSTOCK_REQUIRE_GPU says that there is a GPU.
// Owns nothing. Must not know what is tested.
// Threads: n/a.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

namespace penstock {

/// Whether a device that cannot be opened is a failure.
inline bool MustBeThere(std::string_view device) {
  return device.starts_with("cuda") && device != "cuda-emulated" &&
         std::getenv("PENSTOCK_REQUIRE_GPU") != nullptr;
}

}  // namespace penstock

/// Ends the test where `absent` says so; `why` is streamed.
#define PENSTOCK_NEEDS_DEVICE(device, absent, why)        \
  do {                                                    \
    if ((absent) && ::penstock::MustBeThere(device))      \
      FAIL() << "PENSTOCK_REQUIRE_GPU is set: " << (why); \
    if (absent) GTEST_SKIP() << (why);                    \
  } while (false)
