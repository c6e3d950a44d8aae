#include "text/jinja/lexer_strings.h"

#include "absl/strings/str_cat.h"
#include "base/utf8.h"
#include "text/unicode.h"

namespace penstock::jinja {
namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// \xNN, \uNNNN, \UNNNNNNNN; `pos` is behind the letter.
absl::Status AppendHex(std::string_view literal, size_t digits, size_t* pos, std::string* out) {
  char32_t value = 0;
  for (size_t i = 0; i < digits; ++i) {
    const int digit = *pos + i < literal.size() ? HexDigit(literal[*pos + i]) : -1;
    if (digit < 0) return absl::InvalidArgumentError("truncated escape in a string");
    value = value * 16 + static_cast<char32_t>(digit);
  }
  if (value > 0x10FFFF) return absl::InvalidArgumentError("illegal Unicode character in a string");
  *pos += digits;
  AppendUtf8(value, out);
  return absl::OkStatus();
}

void AppendOctal(std::string_view literal, size_t* pos, std::string* out) {
  char32_t value = 0;
  for (int i = 0; i < 3 && *pos < literal.size() && literal[*pos] >= '0' && literal[*pos] <= '7';
       ++i) {
    value = value * 8 + static_cast<char32_t>(literal[(*pos)++] - '0');
  }
  AppendUtf8(value, out);
}

}  // namespace

bool IsPythonSpace(char32_t c) { return unicode::IsWhitespace(c) || (c >= 0x1C && c <= 0x1F); }

absl::StatusOr<std::string> UnescapeString(std::string_view literal) {
  std::string out;
  out.reserve(literal.size());
  for (size_t pos = 0; pos < literal.size();) {
    const char c = literal[pos++];
    if (c != '\\' || pos >= literal.size()) {
      out += c;
      continue;
    }
    const char escape = literal[pos];
    constexpr std::string_view kLetters = "abfnrtv\\'\"";
    constexpr std::string_view kValues = "\a\b\f\n\r\t\v\\'\"";
    if (const size_t i = kLetters.find(escape); i != std::string_view::npos) {
      out += kValues[i];
      ++pos;
    } else if (escape == '\n') {
      ++pos;
    } else if (escape >= '0' && escape <= '7') {
      AppendOctal(literal, &pos, &out);
    } else if (escape == 'x' || escape == 'u' || escape == 'U') {
      ++pos;
      const absl::Status status = AppendHex(literal,
                                            escape == 'x'   ? 2
                                            : escape == 'u' ? 4
                                                            : 8,
                                            &pos, &out);
      if (!status.ok()) return status;
    } else if (escape == 'N') {
      return absl::InvalidArgumentError("\\N{...} in a string is not supported");
    } else {
      out += '\\';
    }
  }
  return out;
}

}  // namespace penstock::jinja
