#include "access/key_text.h"

#include <zlib.h>

#include <algorithm>

#include "access/digest.h"

namespace penstock {
namespace {

constexpr std::string_view kDigits =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
constexpr std::string_view kPrefix = "pst_";
constexpr size_t kIdSize = 8, kSecretSize = 43, kCheckSize = 6;
constexpr size_t kSecretAt = kPrefix.size() + kIdSize + 1;
constexpr size_t kCheckAt = kSecretAt + kSecretSize;

std::string CheckDigits(std::string_view text) {
  uint64_t crc = crc32(0, reinterpret_cast<const Bytef*>(text.data()), text.size());
  std::string out(kCheckSize, '0');
  for (auto digit = out.rbegin(); digit != out.rend(); ++digit, crc /= kDigits.size())
    *digit = kDigits[crc % kDigits.size()];
  return out;
}

// Each digit is as likely as any other: bytes beyond the last multiple of 62 are thrown away.
std::string RandomDigits(size_t size) {
  std::string out;
  while (out.size() < size) {
    for (const char byte : RandomSecret(size)) {
      const auto value = static_cast<unsigned char>(byte);
      if (value < 248 && out.size() < size) out += kDigits[value % kDigits.size()];
    }
  }
  return out;
}

}  // namespace

std::optional<KeyText> KeyText::Parse(std::string_view text) {
  if (text.size() != kCheckAt + kCheckSize || !text.starts_with(kPrefix) ||
      text[kSecretAt - 1] != '_')
    return std::nullopt;
  const KeyText out = {text.substr(kPrefix.size(), kIdSize), text.substr(kSecretAt, kSecretSize)};
  if (out.id.find_first_not_of(kDigits) != out.id.npos) return std::nullopt;
  if (CheckDigits(text.substr(0, kCheckAt)) != text.substr(kCheckAt)) return std::nullopt;
  return out;
}

std::string MakeKeyText() {
  std::string text(kPrefix);
  text += RandomDigits(kIdSize);
  text += '_';
  text += RandomDigits(kSecretSize);
  return text + CheckDigits(text);
}

}  // namespace penstock
