#include "text/char_class.h"

#include <unicode/uchar.h>

#include <map>

namespace penstock {
namespace {

uint8_t ClassOf(UChar32 c) {
  const uint32_t category = U_GET_GC_MASK(c);
  uint8_t flags = 0;
  if ((category & (U_GC_LU_MASK | U_GC_LT_MASK)) != 0) flags |= CharClasses::kUpper;
  if ((category & U_GC_LL_MASK) != 0) flags |= CharClasses::kLower;
  if ((category & (U_GC_LM_MASK | U_GC_LO_MASK)) != 0) flags |= CharClasses::kLetter;
  if ((category & U_GC_M_MASK) != 0) flags |= CharClasses::kMark;
  if ((category & U_GC_N_MASK) != 0) flags |= CharClasses::kNumber;
  if (u_isUWhiteSpace(c)) flags |= CharClasses::kSpace;
  if (c == '\r' || c == '\n') flags |= CharClasses::kBreak;
  return flags;
}

}  // namespace

CharClasses::CharClasses() {
  std::map<std::vector<uint8_t>, uint16_t> known;
  for (size_t block = 0; block < block_of_.size(); ++block) {
    std::vector<uint8_t> flags(256);
    for (size_t i = 0; i < 256; ++i) flags[i] = ClassOf(static_cast<UChar32>(block * 256 + i));
    const auto [it, is_new] = known.try_emplace(flags, static_cast<uint16_t>(known.size()));
    if (is_new) blocks_.insert(blocks_.end(), flags.begin(), flags.end());
    block_of_[block] = it->second;
  }
}

const CharClasses& CharClasses::Get() {
  static const CharClasses classes;
  return classes;
}

}  // namespace penstock
