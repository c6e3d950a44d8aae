#include "text/jinja/format.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"

namespace penstock::jinja {
namespace {

bool IsPrintable(char32_t c) {
  constexpr uint32_t kHidden = U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CS_MASK | U_GC_CO_MASK |
                               U_GC_CN_MASK | U_GC_ZL_MASK | U_GC_ZP_MASK | U_GC_ZS_MASK;
  return c == ' ' || (U_GET_GC_MASK(static_cast<UChar32>(c)) & kHidden) == 0;
}

// A list may hold another many times, so a small value can have an endless text. What is longer
// than this is cut short; it is beyond any Limits::max_text_bytes, so whoever asked is refused it.
constexpr size_t kMaxText = size_t{40} << 20;

void AppendRepr(const Value& value, std::string* out);

void AppendItems(const std::vector<Value>& items, std::string* out) {
  for (size_t i = 0; i < items.size() && out->size() <= kMaxText; ++i) {
    if (i > 0) *out += ", ";
    AppendRepr(items[i], out);
  }
}

void AppendRepr(const Value& value, std::string* out) {
  if (value.is_string()) {
    *out += ReprString(value.string());
  } else if (value.is_list()) {
    *out += '[';
    AppendItems(value.items(), out);
    *out += ']';
  } else if (value.is_tuple()) {
    *out += '(';
    AppendItems(value.items(), out);
    *out += value.items().size() == 1 ? ",)" : ")";
  } else if (value.is_dict()) {
    *out += '{';
    bool first = true;
    for (const auto& [key, member] : value.dict().entries()) {
      if (out->size() > kMaxText) break;
      if (!first) *out += ", ";
      first = false;
      AppendRepr(key, out);
      *out += ": ";
      AppendRepr(member, out);
    }
    *out += '}';
  } else if (value.is_undefined()) {
    *out += "Undefined";
  } else {
    *out += ToText(value);
  }
}

}  // namespace

std::string ReprFloat(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto shortest =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific);
  const std::string_view scientific(buffer, static_cast<size_t>(shortest.ptr - buffer));
  const size_t e = scientific.find('e');
  int exponent = 0;
  const char* digits = scientific.data() + e + 1;
  if (*digits == '+') ++digits;
  std::from_chars(digits, shortest.ptr, exponent);
  if (exponent >= -4 && exponent < 16) {
    char fixed[400];
    const auto end = std::to_chars(fixed, fixed + sizeof(fixed), value, std::chars_format::fixed);
    std::string text(fixed, static_cast<size_t>(end.ptr - fixed));
    return text.find('.') == std::string::npos ? text + ".0" : text;
  }
  return std::string(scientific);
}

std::string ReprString(std::string_view text) {
  const bool single =
      text.find('\'') == std::string_view::npos || text.find('"') != std::string_view::npos;
  const char quote = single ? '\'' : '"';
  std::string out(1, quote);
  for (size_t pos = 0; pos < text.size();) {
    const DecodedCodePoint c = DecodeUtf8(text, pos);
    const std::string_view bytes = text.substr(pos, c.length);
    pos += c.length;
    if (c.value == static_cast<char32_t>(quote) || c.value == '\\') {
      out += '\\';
      out += bytes;
    } else if (c.value == '\n') {
      out += "\\n";
    } else if (c.value == '\r') {
      out += "\\r";
    } else if (c.value == '\t') {
      out += "\\t";
    } else if (IsPrintable(c.value)) {
      out += bytes;
    } else if (c.value < 0x100) {
      out += absl::StrFormat("\\x%02x", static_cast<uint32_t>(c.value));
    } else if (c.value < 0x10000) {
      out += absl::StrFormat("\\u%04x", static_cast<uint32_t>(c.value));
    } else {
      out += absl::StrFormat("\\U%08x", static_cast<uint32_t>(c.value));
    }
  }
  out += quote;
  return out;
}

std::string Repr(const Value& value) {
  std::string out;
  AppendRepr(value, &out);
  return out;
}

std::string ToText(const Value& value) {
  if (value.is_string()) return value.string();
  if (value.is_undefined()) return "";
  if (value.is_none()) return "None";
  if (value.is_bool()) return value.integer() != 0 ? "True" : "False";
  if (value.is_int()) return absl::StrCat(value.integer());
  if (value.is_float()) return ReprFloat(value.number());
  if (value.is_object()) return value.object()->Repr();
  return Repr(value);
}

// The directives of C that have the same meaning in Python; the others come through as they are, as
// in the C library.
absl::StatusOr<std::string> FormatTime(std::string_view format, absl::Time time) {
  constexpr std::string_view kDirectives = "aAbBcdDeFgGhHIjmMnprRStTuUVwWxXyY";
  std::string out;
  const absl::TimeZone utc = absl::UTCTimeZone();
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 >= format.size()) {
      out += format[i];
      continue;
    }
    const char directive = format[++i];
    if (directive == '%') {
      out += '%';
    } else if (directive == 'f') {
      out +=
          absl::StrFormat("%06d", absl::ToInt64Microseconds(time - absl::UnixEpoch()) % 1'000'000);
    } else if (directive == '-' && i + 1 < format.size()) {
      // glibc: without padding.
      std::string padded = absl::FormatTime(std::string("%") + format[++i], time, utc);
      padded.erase(
          0, std::min(padded.find_first_not_of("0 "), padded.size() - (padded.empty() ? 0 : 1)));
      out += padded;
    } else if (directive == 'z' || directive == 'Z') {
      // Python's naive local time has no zone.
    } else if (kDirectives.find(directive) != std::string_view::npos) {
      out += absl::FormatTime(std::string("%") + directive, time, utc);
    } else {
      out += '%';
      out += directive;
    }
  }
  return out;
}

}  // namespace penstock::jinja
