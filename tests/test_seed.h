// The seed of a test's random numbers: the same in every run unless the environment says otherwise.
// Owns nothing.
// Threads: any.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string_view>

namespace penstock {

/// `PENSTOCK_SEED`: a number, or `random` for another one in each run, as a search for rare failures
/// wants it. Printed, so that a failure can be repeated.
inline uint64_t TestSeed() {
  uint64_t seed = 1;
  if (const char* asked = std::getenv("PENSTOCK_SEED"); asked != nullptr) {
    seed = std::string_view(asked) == "random" ? std::random_device{}()
                                               : std::strtoull(asked, nullptr, 10);
  }
  std::printf("seed %llu (PENSTOCK_SEED sets it)\n", static_cast<unsigned long long>(seed));
  return seed;
}

}  // namespace penstock
