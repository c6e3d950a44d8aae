// Philox4x32-10 for kernels: the words of backend/cpu/philox.h, which a test holds it to.
// Owns nothing. Must not know what is drawn.
// Threads: value; host and device.
#pragma once

#include <cstdint>

#include "kernels/namespace.h"

namespace penstock::PENSTOCK_KERNELS {

struct PhiloxWords {
  uint32_t words[4];
};

/// Of the counter {low, high, 0, 0} under a key.
PENSTOCK_EVERYWHERE inline PhiloxWords Philox(uint32_t low, uint32_t high, uint64_t key) {
  uint32_t c0 = low, c1 = high, c2 = 0, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * c0;
    const uint64_t b = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(b >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(b);
    c2 = static_cast<uint32_t>(a >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(a);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {{c0, c1, c2, c3}};
}

}  // namespace penstock::PENSTOCK_KERNELS
