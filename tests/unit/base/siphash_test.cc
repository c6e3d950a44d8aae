#include "base/siphash.h"

#include <string>

#include "gtest/gtest.h"

namespace penstock {
namespace {

// The published 128-bit vectors: key 00..0f, input 00, 00 01, ...
TEST(SipHash, MatchesThePublishedVectors) {
  const std::array<uint64_t, 2> key = {0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL};
  std::string input;
  EXPECT_EQ(SipHash128(key, input), (Hash128{0xe6a825ba047f81a3ULL, 0x930255c71472f66dULL}));
  input.push_back('\0');
  EXPECT_EQ(SipHash128(key, input), (Hash128{0x44af996bd8c187daULL, 0x45fc229b11597634ULL}));
}

TEST(SipHash, DependsOnKeyAndEveryByte) {
  const std::string input(37, 'x');
  const Hash128 base = SipHash128({1, 2}, input);
  EXPECT_NE(base, SipHash128({1, 3}, input));
  for (size_t i = 0; i < input.size(); ++i) {
    std::string other = input;
    other[i] ^= 1;
    EXPECT_NE(base, SipHash128({1, 2}, other)) << i;
  }
}

}  // namespace
}  // namespace penstock
