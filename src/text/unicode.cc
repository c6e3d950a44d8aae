#include "text/unicode.h"

#include <unicode/brkiter.h>
#include <unicode/normalizer2.h>
#include <unicode/stringpiece.h>
#include <unicode/uchar.h>
#include <unicode/utext.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "base/utf8.h"

namespace penstock::unicode {
namespace {

bool IsInClass(char32_t c, uint32_t categories, int last_version) {
  if ((U_GET_GC_MASK(static_cast<UChar32>(c)) & categories) == 0) return false;
  UVersionInfo age;
  u_charAge(static_cast<UChar32>(c), age);
  return age[0] <= last_version;
}

uint8_t CombiningClass(char32_t c) {
  return c < 0x300 ? 0 : u_getCombiningClass(static_cast<UChar32>(c));
}

// Puts runs of more than a few combining marks into canonical order, which ICU does with a time
// that grows with the square of the run. Canonically, nothing changes.
std::string OrderLongMarkRuns(std::string_view text, const icu::Normalizer2& decomposer) {
  std::string out;
  std::vector<std::pair<uint8_t, char32_t>> run;
  const auto flush = [&] {
    std::stable_sort(run.begin(), run.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [unused, c] : run) AppendUtf8(c, &out);
    run.clear();
  };
  icu::UnicodeString parts;
  for (size_t pos = 0; pos < text.size();) {
    const DecodedCodePoint c = DecodeUtf8(text, pos);
    pos += c.length;
    if (CombiningClass(c.value) == 0) {
      flush();
      AppendUtf8(c.value, &out);
    } else if (decomposer.getDecomposition(static_cast<UChar32>(c.value), parts)) {
      for (int32_t i = 0; i < parts.length(); i = parts.moveIndex32(i, 1)) {
        const auto part = static_cast<char32_t>(parts.char32At(i));
        run.emplace_back(CombiningClass(part), part);
      }
    } else {
      run.emplace_back(CombiningClass(c.value), c.value);
    }
  }
  flush();
  return out;
}

bool HasLongMarkRun(std::string_view text) {
  constexpr size_t kLong = 64;
  size_t length = 0;
  for (size_t pos = 0; pos < text.size();) {
    if (static_cast<uint8_t>(text[pos]) < 0xCC) {  // below U+0300
      length = 0;
      ++pos;
      continue;
    }
    const DecodedCodePoint c = DecodeUtf8(text, pos);
    pos += c.length;
    length = CombiningClass(c.value) == 0 ? 0 : length + 1;
    if (length > kLong) return true;
  }
  return false;
}

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

}  // namespace

bool IsWhitespace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  return u_isUWhiteSpace(static_cast<UChar32>(c));
}

bool IsNumeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  return (U_GET_GC_MASK(static_cast<UChar32>(c)) & U_GC_N_MASK) != 0;
}

bool IsPunctuation(char32_t c) {
  if (c < 0x80) {
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
  }
  if (c == 0x166D || c == 0x111C9) return true;  // have changed their class since
  return IsInClass(c, U_GC_P_MASK, 8);
}

bool IsWord(char32_t c) {
  const auto u = static_cast<UChar32>(c);
  constexpr uint32_t kMask = U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;
  return u_isUAlphabetic(u) || (U_GET_GC_MASK(u) & kMask) != 0 ||
         u_hasBinaryProperty(u, UCHAR_JOIN_CONTROL);
}

bool IsMark(char32_t c) { return c >= 0x80 && IsInClass(c, U_GC_M_MASK, 9); }

bool IsNonspacingMark(char32_t c) { return c >= 0x80 && IsInClass(c, U_GC_MN_MASK, 8); }

bool IsControl(char32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  return IsInClass(c, U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK, 8);
}

bool IsCjkIdeograph(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

std::string ToLower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const DecodedCodePoint c = DecodeUtf8(text, pos);
    pos += c.length;
    if (c.value == 0x130) {  // the one code point whose lower case is two
      AppendUtf8('i', &out);
      AppendUtf8(0x307, &out);
    } else {
      AppendUtf8(static_cast<char32_t>(u_tolower(static_cast<UChar32>(c.value))), &out);
    }
  }
  return out;
}

std::string Normalize(NormalForm form, std::string_view text) {
  if (IsAscii(text)) return std::string(text);
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* normalizer = nullptr;
  switch (form) {
    case NormalForm::kNfc:
      normalizer = icu::Normalizer2::getNFCInstance(error);
      break;
    case NormalForm::kNfd:
      normalizer = icu::Normalizer2::getNFDInstance(error);
      break;
    case NormalForm::kNfkc:
      normalizer = icu::Normalizer2::getNFKCInstance(error);
      break;
    case NormalForm::kNfkd:
      normalizer = icu::Normalizer2::getNFKDInstance(error);
      break;
  }
  std::string ordered;
  if (U_SUCCESS(error) && HasLongMarkRun(text)) {
    ordered = OrderLongMarkRuns(text, *normalizer);
    text = ordered;
  }
  std::string out;
  icu::StringByteSink<std::string> sink(&out);
  if (U_SUCCESS(error)) {
    normalizer->normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())),
                              sink, nullptr, error);
  }
  return U_SUCCESS(error) ? out : std::string(text);
}

void ForEachGrapheme(std::string_view text, const std::function<void(std::string_view)>& fn) {
  const auto ascii = [&](size_t i) { return static_cast<uint8_t>(text[i]) < 0x80; };
  UErrorCode error = U_ZERO_ERROR;
  thread_local const std::unique_ptr<icu::BreakIterator> breaks(
      icu::BreakIterator::createCharacterInstance(icu::Locale::getRoot(), error));
  for (size_t pos = 0; pos < text.size();) {
    // Between two ASCII characters is a boundary, but for CR LF.
    if (ascii(pos) && text[pos] != '\r' && (pos + 1 == text.size() || ascii(pos + 1))) {
      fn(text.substr(pos++, 1));
      continue;
    }
    size_t end = pos + 1;
    while (end < text.size() && !(ascii(end - 1) && ascii(end) && text[end - 1] != '\r')) ++end;
    const std::string_view part = text.substr(pos, end - pos);
    pos = end;
    UErrorCode part_error = U_ZERO_ERROR;
    UText utext = UTEXT_INITIALIZER;
    utext_openUTF8(&utext, part.data(), static_cast<int64_t>(part.size()), &part_error);
    if (breaks != nullptr) breaks->setText(&utext, part_error);
    if (breaks == nullptr || U_FAILURE(part_error)) {
      fn(part);
    } else {
      for (int32_t begin = 0, next; (next = breaks->next()) != icu::BreakIterator::DONE;
           begin = next) {
        fn(part.substr(begin, next - begin));
      }
    }
    utext_close(&utext);
  }
}

}  // namespace penstock::unicode
