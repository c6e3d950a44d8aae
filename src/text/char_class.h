// What the split patterns ask of a code point: letter, mark, number, white space, by ICU, as a byte
// of flags from a table.
// Owns the table, made at first use. Must not know patterns.
// Threads: thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace penstock {

class CharClasses {
 public:
  enum Flag : uint8_t {
    kUpper = 1,    // Lu, Lt
    kLower = 2,    // Ll
    kLetter = 4,   // Lm, Lo
    kMark = 8,     // M
    kNumber = 16,  // N
    kSpace = 32,   // White_Space
    kBreak = 64,   // CR, LF; also kSpace
  };
  static constexpr uint8_t kAnyLetter = kUpper | kLower | kLetter;

  static const CharClasses& Get();
  uint8_t of_ascii(uint8_t c) const { return blocks_[c]; }
  uint8_t of(char32_t c) const { return blocks_[block_of_[c >> 8] * 256u + (c & 0xFF)]; }

 private:
  CharClasses();

  std::array<uint16_t, 0x1100> block_of_;
  std::vector<uint8_t> blocks_;  // of 256 each, the first for U+0000 onwards
};

}  // namespace penstock
