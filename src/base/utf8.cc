#include "base/utf8.h"

#include <cstdint>
#include <cstring>

namespace penstock {
namespace {

// What a lead byte promises: the length, and the range of the second byte, which excludes overlong
// forms, surrogates and values above U+10FFFF.
struct Lead {
  uint8_t length;
  uint8_t second_low;
  uint8_t second_high;
};

constexpr Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// The length of the ASCII run that starts at `pos`.
size_t AsciiRun(std::string_view text, size_t pos) {
  const size_t start = pos;
  while (pos + 8 <= text.size()) {
    uint64_t word;
    std::memcpy(&word, text.data() + pos, 8);
    if ((word & 0x8080808080808080ULL) != 0) break;
    pos += 8;
  }
  while (pos < text.size() && static_cast<uint8_t>(text[pos]) < 0x80) ++pos;
  return pos - start;
}

}  // namespace

DecodedCodePoint DecodeUtf8(std::string_view text, size_t pos) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(pos);
  if (first < 0x80) return {first, 1, true, false};
  const Lead lead = LeadOf(first);
  if (lead.length == 0) return {};
  char32_t value = first & (0xFF >> (lead.length + 1));
  for (size_t i = 1; i < lead.length; ++i) {
    if (pos + i >= text.size()) return {kReplacementCharacter, i, false, true};
    const uint8_t next = byte(pos + i);
    const uint8_t low = i == 1 ? lead.second_low : 0x80;
    const uint8_t high = i == 1 ? lead.second_high : 0xBF;
    if (next < low || next > high) return {kReplacementCharacter, i, false, false};
    value = (value << 6) | (next & 0x3F);
  }
  return {value, lead.length, true, false};
}

void AppendUtf8(char32_t c, std::string* out) {
  if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) c = kReplacementCharacter;
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
    return;
  }
  if (c < 0x800) {
    out->push_back(static_cast<char>(0xC0 | (c >> 6)));
  } else {
    if (c < 0x10000) {
      out->push_back(static_cast<char>(0xE0 | (c >> 12)));
    } else {
      out->push_back(static_cast<char>(0xF0 | (c >> 18)));
      out->push_back(static_cast<char>(0x80 | ((c >> 12) & 0x3F)));
    }
    out->push_back(static_cast<char>(0x80 | ((c >> 6) & 0x3F)));
  }
  out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
}

std::string EncodeUtf8(char32_t code_point) {
  std::string out;
  AppendUtf8(code_point, &out);
  return out;
}

bool IsValidUtf8(std::string_view text) {
  for (size_t pos = AsciiRun(text, 0); pos < text.size(); pos += AsciiRun(text, pos)) {
    const DecodedCodePoint c = DecodeUtf8(text, pos);
    if (!c.valid) return false;
    pos += c.length;
  }
  return true;
}

std::string RepairUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const size_t ascii = AsciiRun(text, pos);
    out.append(text, pos, ascii);
    pos += ascii;
    if (pos >= text.size()) break;
    const DecodedCodePoint c = DecodeUtf8(text, pos);
    if (c.valid) {
      out.append(text, pos, c.length);
    } else {
      out.append(kReplacementUtf8);
    }
    pos += c.length;
  }
  return out;
}

size_t IncompleteUtf8Suffix(std::string_view text) {
  const size_t reach = text.size() < 3 ? text.size() : 3;
  for (size_t back = reach; back >= 1; --back) {
    const DecodedCodePoint c = DecodeUtf8(text, text.size() - back);
    if (c.truncated && c.length == back) return back;
  }
  return 0;
}

std::string_view Utf8Prefix(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  text = text.substr(0, max_bytes);
  text.remove_suffix(IncompleteUtf8Suffix(text));
  return text;
}

std::u32string ToCodePoints(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const DecodedCodePoint c = DecodeUtf8(text, pos);
    out.push_back(c.value);
    pos += c.length;
  }
  return out;
}

std::string FromCodePoints(std::u32string_view code_points) {
  std::string out;
  out.reserve(code_points.size());
  for (const char32_t c : code_points) AppendUtf8(c, &out);
  return out;
}

size_t CountCodePoints(std::string_view text) {
  size_t count = 0;
  for (size_t pos = 0; pos < text.size(); ++count) pos += DecodeUtf8(text, pos).length;
  return count;
}

}  // namespace penstock
