#include "service/ids.h"

#include <random>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/strings.h"
#include "text/reply/reply_format.h"

namespace penstock {

uint64_t RandomBits() {
  thread_local std::mt19937_64 generator = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device(),
                       device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }();
  return generator();
}

std::string MakeRequestId() {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string id(32, '0');
  for (int word = 0; word < 2; ++word) {
    uint64_t bits = RandomBits();
    for (int i = 0; i < 16; ++i, bits >>= 4) id[word * 16 + i] = kDigits[bits & 15];
  }
  return id;
}

std::string MakeCallId(CallIdForm form, std::string_view function, int64_t number) {
  if (form == CallIdForm::kFunctionAndNumber)
    return absl::StrCat("functions.", ToAbsl(function), ":", number);
  if (form == CallIdForm::kAny) return "call_" + MakeRequestId().substr(0, 24);
  constexpr std::string_view kCharacters =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  std::string id(9, '0');
  uint64_t bits = RandomBits();
  for (char& c : id) {
    c = kCharacters[bits % kCharacters.size()];
    bits /= kCharacters.size();
  }
  return id;
}

std::string CleanRequestId(std::string_view id) {
  std::string clean;
  for (char c : id.substr(0, 128)) {
    if (absl::ascii_isalnum(c) || c == '.' || c == '_' || c == ':' || c == '-') clean.push_back(c);
  }
  return clean;
}

}  // namespace penstock
