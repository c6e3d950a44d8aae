#include "text/jinja/text_functions.h"

#include <unicode/locid.h>
#include <unicode/stringoptions.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>

#include "base/utf8.h"
#include "text/jinja/lexer_strings.h"

namespace penstock::jinja {
namespace {

size_t CharacterBefore(std::string_view text, size_t end) {
  size_t pos = end - 1;
  while (pos > 0 && (static_cast<uint8_t>(text[pos]) & 0xC0) == 0x80) --pos;
  return pos;
}

std::string MapCase(std::string_view text, bool upper) {
  icu::UnicodeString s = icu::UnicodeString::fromUTF8(
      icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
  upper ? s.toUpper(icu::Locale::getRoot()) : s.toLower(icu::Locale::getRoot());
  std::string out;
  return s.toUTF8String(out);
}

bool IsCased(char32_t c) {
  const auto u = static_cast<UChar32>(c);
  return u_isULowercase(u) || u_isUUppercase(u) || u_istitle(u);
}

// Of one character, which may become several: "Ss" of a sharp s.
std::string TitleCase(char32_t c) {
  icu::UnicodeString s(static_cast<UChar32>(c));
  s.toTitle(nullptr, icu::Locale::getRoot(),
            U_TITLECASE_WHOLE_STRING | U_TITLECASE_NO_BREAK_ADJUSTMENT);
  std::string out;
  return s.toUTF8String(out);
}

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

}  // namespace

std::string_view Strip(std::string_view text, std::optional<std::string_view> characters, bool left,
                       bool right) {
  const auto stripped = [&](std::string_view character) {
    return characters ? characters->find(character) != std::string_view::npos
                      : IsPythonSpace(DecodeUtf8(character, 0).value);
  };
  while (left && !text.empty()) {
    const size_t length = DecodeUtf8(text, 0).length;
    if (!stripped(text.substr(0, length))) break;
    text.remove_prefix(length);
  }
  while (right && !text.empty()) {
    const size_t begin = CharacterBefore(text, text.size());
    if (!stripped(text.substr(begin))) break;
    text.remove_suffix(text.size() - begin);
  }
  return text;
}

std::string ToUpper(std::string_view text) {
  if (!IsAscii(text)) return MapCase(text, true);
  std::string out(text);
  for (char& c : out) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  return out;
}

std::string ToLower(std::string_view text) {
  if (!IsAscii(text)) return MapCase(text, false);
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

std::string FoldCase(std::string_view text) {
  if (IsAscii(text)) return ToLower(text);
  icu::UnicodeString s = icu::UnicodeString::fromUTF8(
      icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
  std::string out;
  return s.foldCase(U_FOLD_CASE_DEFAULT).toUTF8String(out);
}

std::string Capitalize(std::string_view text) {
  if (text.empty()) return "";
  const DecodedCodePoint first = DecodeUtf8(text, 0);
  return TitleCase(first.value) + ToLower(text.substr(first.length));
}

std::string TitleWords(std::string_view text) {
  std::string out;
  bool in_word = false;
  for (size_t pos = 0; pos < text.size();) {
    const DecodedCodePoint c = DecodeUtf8(text, pos);
    const std::string_view bytes = text.substr(pos, c.length);
    pos += c.length;
    out += in_word ? ToLower(bytes) : TitleCase(c.value);
    in_word = IsCased(c.value);
  }
  return out;
}

std::string SwapCase(std::string_view text) {
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    const DecodedCodePoint c = DecodeUtf8(text, pos);
    const std::string_view bytes = text.substr(pos, c.length);
    pos += c.length;
    out += u_isUUppercase(static_cast<UChar32>(c.value)) ? ToLower(bytes) : ToUpper(bytes);
  }
  return out;
}

bool IsWordCharacter(char32_t c) {
  const auto u = static_cast<UChar32>(c);
  return c == '_' || (U_GET_GC_MASK(u) & U_GC_L_MASK) != 0 ||
         u_getIntPropertyValue(u, UCHAR_NUMERIC_TYPE) != U_NT_NONE;
}

std::vector<std::string> SplitWords(std::string_view text, int64_t max, bool from_right) {
  std::vector<std::string> words;
  text = Strip(text, std::nullopt, !from_right, from_right);
  while (!text.empty() && (max < 0 || static_cast<int64_t>(words.size()) < max)) {
    size_t cut = from_right ? text.size() : 0;
    while (from_right ? cut > 0 : cut < text.size()) {
      const size_t next =
          from_right ? CharacterBefore(text, cut) : cut + DecodeUtf8(text, cut).length;
      if (IsPythonSpace(DecodeUtf8(text, from_right ? next : cut).value)) break;
      cut = next;
    }
    words.emplace_back(from_right ? text.substr(cut) : text.substr(0, cut));
    text = from_right ? text.substr(0, cut) : text.substr(cut);
    text = Strip(text, std::nullopt, !from_right, from_right);
  }
  if (!text.empty()) words.emplace_back(text);
  if (from_right) std::reverse(words.begin(), words.end());
  return words;
}

std::vector<std::string> SplitAt(std::string_view text, std::string_view separator, int64_t max,
                                 bool from_right) {
  std::vector<std::string> parts;
  while (max < 0 || static_cast<int64_t>(parts.size()) < max) {
    const size_t at = from_right ? text.rfind(separator) : text.find(separator);
    if (at == std::string_view::npos) break;
    const size_t after = at + separator.size();
    parts.emplace_back(from_right ? text.substr(after) : text.substr(0, at));
    text = from_right ? text.substr(0, at) : text.substr(after);
  }
  parts.emplace_back(text);
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> SplitLines(std::string_view text, bool keep_ends) {
  constexpr std::u32string_view kBreaks = U"\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029";
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t pos = 0; pos < text.size();) {
    const DecodedCodePoint c = DecodeUtf8(text, pos);
    size_t end = pos + c.length;
    if (kBreaks.find(c.value) != std::u32string_view::npos) {
      if (c.value == '\r' && end < text.size() && text[end] == '\n') ++end;
      lines.emplace_back(text.substr(begin, (keep_ends ? end : pos) - begin));
      begin = end;
    }
    pos = end;
  }
  if (begin < text.size()) lines.emplace_back(text.substr(begin));
  return lines;
}

size_t CountOccurrences(std::string_view text, std::string_view from) {
  if (from.empty()) return CountCodePoints(text) + 1;
  size_t count = 0;
  for (size_t at = text.find(from); at != std::string_view::npos;
       at = text.find(from, at + from.size()))
    ++count;
  return count;
}

std::string ReplaceText(std::string_view text, std::string_view from, std::string_view to,
                        int64_t max) {
  std::string out;
  size_t pos = 0;
  for (int64_t done = 0; max < 0 || done < max; ++done) {
    if (from.empty()) {
      out += to;
      if (pos >= text.size()) return out;
      const size_t length = DecodeUtf8(text, pos).length;
      out += text.substr(pos, length);
      pos += length;
      continue;
    }
    const size_t at = text.find(from, pos);
    if (at == std::string_view::npos) break;
    out += text.substr(pos, at - pos);
    out += to;
    pos = at + from.size();
  }
  out += text.substr(pos);
  return out;
}

std::string EscapeHtml(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace penstock::jinja
