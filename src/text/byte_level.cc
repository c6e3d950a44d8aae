#include "text/byte_level.h"

#include <array>
#include <cstdint>

#include "base/utf8.h"

namespace penstock::byte_level {
namespace {

struct Alphabet {
  std::array<std::string, 256> utf8;  // of the code point of a byte
  std::array<int16_t, kEnd> byte_of;  // of a code point; -1: none
};

// Printable Latin-1 stands for itself; the other bytes take U+0100 onwards in their order.
Alphabet MakeAlphabet() {
  Alphabet alphabet;
  alphabet.byte_of.fill(-1);
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const char32_t code_point = printable ? static_cast<char32_t>(byte) : next++;
    alphabet.utf8[byte] = EncodeUtf8(code_point);
    alphabet.byte_of[code_point] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

const Alphabet& TheAlphabet() {
  static const Alphabet alphabet = MakeAlphabet();
  return alphabet;
}

}  // namespace

void AppendEncoded(std::string_view bytes, std::string* out) {
  const Alphabet& alphabet = TheAlphabet();
  for (const char c : bytes) out->append(alphabet.utf8[static_cast<uint8_t>(c)]);
}

std::string Encode(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() + bytes.size() / 2);
  AppendEncoded(bytes, &out);
  return out;
}

std::string Decode(std::string_view token) {
  const Alphabet& alphabet = TheAlphabet();
  std::string out;
  for (size_t pos = 0; pos < token.size();) {
    const DecodedCodePoint c = DecodeUtf8(token, pos);
    pos += c.length;
    if (c.value >= kEnd || alphabet.byte_of[c.value] < 0) return std::string(token);
    out.push_back(static_cast<char>(alphabet.byte_of[c.value]));
  }
  return out;
}

}  // namespace penstock::byte_level
