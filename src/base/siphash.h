// SipHash-2-4 with a 128-bit result: a keyed hash that a stranger cannot make collide (Aumasson and
// Bernstein 2012).
// Owns nothing. Must not know the domain.
// Threads: value.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace penstock {

struct Hash128 {
  uint64_t lo = 0;
  uint64_t hi = 0;
  friend constexpr auto operator<=>(const Hash128&, const Hash128&) = default;
  template <class H>
  friend H AbslHashValue(H h, const Hash128& v) {
    return H::combine(std::move(h), v.lo, v.hi);
  }
};

namespace siphash_internal {

struct State {
  uint64_t v0, v1, v2, v3;
  void Round() {
    v0 += v1;
    v1 = std::rotl(v1, 13);
    v1 ^= v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16);
    v3 ^= v2;
    v0 += v3;
    v3 = std::rotl(v3, 21);
    v3 ^= v0;
    v2 += v1;
    v1 = std::rotl(v1, 17);
    v1 ^= v2;
    v2 = std::rotl(v2, 32);
  }
  void Absorb(uint64_t m) {
    v3 ^= m;
    Round();
    Round();
    v0 ^= m;
  }
  uint64_t Squeeze() {
    for (int i = 0; i < 4; ++i) Round();
    return v0 ^ v1 ^ v2 ^ v3;
  }
};

}  // namespace siphash_internal

/// The 128-bit SipHash-2-4 of `data` under `key` (two little-endian words).
inline Hash128 SipHash128(const std::array<uint64_t, 2>& key, std::string_view data) {
  siphash_internal::State s{key[0] ^ 0x736f6d6570736575ULL, key[1] ^ 0x646f72616e646f6dULL ^ 0xee,
                            key[0] ^ 0x6c7967656e657261ULL, key[1] ^ 0x7465646279746573ULL};
  size_t i = 0;
  for (; i + 8 <= data.size(); i += 8) {
    uint64_t m;
    std::memcpy(&m, data.data() + i, 8);
    s.Absorb(m);
  }
  uint64_t last = static_cast<uint64_t>(data.size()) << 56;
  for (size_t j = 0; i + j < data.size(); ++j) {
    last |= static_cast<uint64_t>(static_cast<unsigned char>(data[i + j])) << (8 * j);
  }
  s.Absorb(last);
  s.v2 ^= 0xee;
  Hash128 out;
  out.lo = s.Squeeze();
  s.v1 ^= 0xdd;
  out.hi = s.Squeeze();
  return out;
}

}  // namespace penstock
