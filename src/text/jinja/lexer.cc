#include "text/jinja/lexer.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "text/jinja/lexer_strings.h"
#include "text/unicode.h"

namespace penstock::jinja {
namespace {

// Python's and Jinja's line breaks become \n; one at the very end goes.
std::string NormalizeNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
}
bool IsNamePart(char c) { return IsNameStart(c) || IsDigit(c); }

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)), text_(source_) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (pos_ < text_.size()) RETURN_IF_ERROR(LexDataAndTag());
    Emit(TokenKind::kEnd, pos_, "");
    return std::move(tokens_);
  }

 private:
  enum class TagKind { kVariable, kBlock, kComment };

  Position PositionAt(size_t pos) {
    while (counted_ < pos) {
      if (text_[counted_++] == '\n') {
        ++line_;
        line_start_ = counted_;
      }
    }
    // An earlier position than the last one asked for lies on the same line or is not asked for.
    return {line_, static_cast<int32_t>(pos - std::min(pos, line_start_)) + 1};
  }

  void Emit(TokenKind kind, size_t at, std::string text) {
    tokens_.push_back({kind, PositionAt(at), std::move(text), 0, 0});
  }

  absl::Status Fail(size_t at, std::string_view message) {
    return ErrorAt(PositionAt(at), message);
  }

  // The next "{{", "{%" or "{#".
  size_t FindTag(size_t from) const {
    for (size_t p = text_.find('{', from); p != std::string_view::npos;
         p = text_.find('{', p + 1)) {
      if (p + 1 == text_.size()) break;
      if (text_[p + 1] == '{' || text_[p + 1] == '%' || text_[p + 1] == '#') return p;
    }
    return std::string_view::npos;
  }

  // What of the data before a tag stays: `sign` is the tag's - or +, or 0.
  std::string_view StripBefore(std::string_view data, char sign, bool is_variable) const {
    if (sign == '-') return TrimRight(data);
    if (sign == '+' || is_variable) return data;
    const size_t newline = data.rfind('\n');
    const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    if (line == 0 && !line_starting_) return data;
    return TrimRight(data.substr(line)).empty() && line < data.size() ? data.substr(0, line) : data;
  }

  static std::string_view TrimRight(std::string_view data) {
    while (!data.empty()) {
      size_t p = data.size() - 1;
      while (p > 0 && (static_cast<uint8_t>(data[p]) & 0xC0) == 0x80) --p;
      if (!IsPythonSpace(DecodeUtf8(data, p).value)) break;
      data.remove_suffix(data.size() - p);
    }
    return data;
  }

  size_t SkipSpace(size_t p) const {
    while (p < text_.size()) {
      const DecodedCodePoint c = DecodeUtf8(text_, p);
      if (!IsPythonSpace(c.value)) break;
      p += c.length;
    }
    return p;
  }

  absl::Status LexDataAndTag() {
    const size_t tag = FindTag(pos_);
    if (tag == std::string_view::npos) {
      Emit(TokenKind::kData, pos_, std::string(text_.substr(pos_)));
      pos_ = text_.size();
      return absl::OkStatus();
    }
    const TagKind kind = text_[tag + 1] == '{'   ? TagKind::kVariable
                         : text_[tag + 1] == '%' ? TagKind::kBlock
                                                 : TagKind::kComment;
    size_t inner = tag + 2;
    char sign = 0;
    if (inner < text_.size() && (text_[inner] == '-' || text_[inner] == '+')) sign = text_[inner++];
    const std::string_view data =
        StripBefore(text_.substr(pos_, tag - pos_), sign, kind == TagKind::kVariable);
    if (!data.empty()) Emit(TokenKind::kData, pos_, std::string(data));
    pos_ = inner;
    if (kind == TagKind::kComment) return SkipComment(tag);
    if (kind == TagKind::kBlock) {
      if (const std::optional<size_t> body = RawBegin(inner)) return LexRaw(*body, tag);
    }
    Emit(kind == TagKind::kVariable ? TokenKind::kVariableBegin : TokenKind::kBlockBegin, tag, "");
    return LexInside(kind == TagKind::kVariable, tag);
  }

  // Past the end of a block or comment tag whose closing bracket is at `p`, `sign` before it.
  void EndTag(size_t p, char sign) {
    pos_ = p + 2;
    if (sign == '-') {
      pos_ = SkipSpace(pos_);
    } else if (sign != '+' && pos_ < text_.size() && text_[pos_] == '\n') {
      ++pos_;
    }
    line_starting_ = text_[pos_ - 1] == '\n';
  }

  absl::Status SkipComment(size_t tag) {
    const size_t end = text_.find("#}", pos_);
    if (end == std::string_view::npos) return Fail(tag, "Missing end of comment tag");
    const char sign = end > pos_ ? text_[end - 1] : 0;
    EndTag(end, sign == '-' || sign == '+' ? sign : 0);
    return absl::OkStatus();
  }

  // Where the text of {% raw %} starts, when the block that starts at `p` is one.
  std::optional<size_t> RawBegin(size_t p) const {
    p = SkipSpace(p);
    if (text_.substr(p, 3) != "raw") return std::nullopt;
    p = SkipSpace(p + 3);
    if (text_.substr(p, 3) == "-%}") return SkipSpace(p + 3);
    if (text_.substr(p, 2) != "%}") return std::nullopt;
    return p + 2;
  }

  absl::Status LexRaw(size_t body, size_t tag) {
    for (size_t p = text_.find("{%", body); p != std::string_view::npos;
         p = text_.find("{%", p + 2)) {
      size_t inner = p + 2;
      char sign = 0;
      if (inner < text_.size() && (text_[inner] == '-' || text_[inner] == '+'))
        sign = text_[inner++];
      inner = SkipSpace(inner);
      if (text_.substr(inner, 6) != "endraw") continue;
      inner = SkipSpace(inner + 6);
      char end_sign = 0;
      if (inner < text_.size() && (text_[inner] == '-' || text_[inner] == '+'))
        end_sign = text_[inner++];
      if (text_.substr(inner, 2) != "%}") continue;
      line_starting_ = text_[body - 1] == '\n';
      const std::string_view data = StripBefore(text_.substr(body, p - body), sign, false);
      if (!data.empty()) Emit(TokenKind::kData, body, std::string(data));
      EndTag(inner, end_sign);
      return absl::OkStatus();
    }
    return Fail(tag, "Missing end of raw directive");
  }

  // The end of the tag, when it stands here and no bracket is open.
  bool AtTagEnd(bool variable) {
    if (!brackets_.empty()) return false;
    const std::string_view close = variable ? "}}" : "%}";
    char sign = text_[pos_] == '-' || (!variable && text_[pos_] == '+') ? text_[pos_] : 0;
    const size_t p = pos_ + (sign != 0 ? 1 : 0);
    if (text_.substr(p, 2) != close) return false;
    Emit(variable ? TokenKind::kVariableEnd : TokenKind::kBlockEnd, pos_, "");
    if (variable) {
      pos_ = sign == '-' ? SkipSpace(p + 2) : p + 2;
      line_starting_ = text_[pos_ - 1] == '\n';
    } else {
      EndTag(p, sign);
    }
    return true;
  }

  absl::Status LexInside(bool variable, size_t tag) {
    while (true) {
      pos_ = SkipSpace(pos_);
      if (pos_ >= text_.size())
        return Fail(tag, "unexpected end of template: the tag is not closed");
      if (AtTagEnd(variable)) return absl::OkStatus();
      const char c = text_[pos_];
      if (IsDigit(c)) {
        RETURN_IF_ERROR(LexNumber());
      } else if (IsNameStart(c)) {
        const size_t begin = pos_;
        while (pos_ < text_.size() && IsNamePart(text_[pos_])) ++pos_;
        Emit(TokenKind::kName, begin, std::string(text_.substr(begin, pos_ - begin)));
      } else if (c == '\'' || c == '"') {
        RETURN_IF_ERROR(LexString());
      } else {
        RETURN_IF_ERROR(LexOperator());
      }
    }
  }

  absl::Status LexString() {
    const size_t begin = pos_;
    const char quote = text_[pos_++];
    while (pos_ < text_.size() && text_[pos_] != quote) pos_ += text_[pos_] == '\\' ? 2 : 1;
    if (pos_ >= text_.size()) return Fail(begin, "a string is not closed");
    absl::StatusOr<std::string> value = UnescapeString(text_.substr(begin + 1, pos_ - begin - 1));
    if (!value.ok()) return Fail(begin, Message(value.status()));
    ++pos_;
    Emit(TokenKind::kString, begin, *std::move(value));
    return absl::OkStatus();
  }

  // Digits with single underscores between.
  size_t DigitRun(size_t p) const {
    while (p < text_.size() &&
           (IsDigit(text_[p]) || (text_[p] == '_' && p + 1 < text_.size() &&
                                  IsDigit(text_[p + 1]) && IsDigit(text_[p - 1])))) {
      ++p;
    }
    return p;
  }

  absl::Status LexNumber() {
    const size_t begin = pos_;
    if (text_[pos_] == '0' && pos_ + 2 < text_.size()) {
      const char marker = static_cast<char>(text_[pos_ + 1] | 0x20);
      const int base = marker == 'x' ? 16 : marker == 'o' ? 8 : marker == 'b' ? 2 : 0;
      if (base != 0) return LexBasedInteger(base);
    }
    size_t end = DigitRun(pos_);
    bool is_float = false;
    if (end + 1 < text_.size() && text_[end] == '.' && IsDigit(text_[end + 1])) {
      is_float = true;
      end = DigitRun(end + 1);
    }
    if (end < text_.size() && (text_[end] | 0x20) == 'e') {
      size_t exponent = end + 1;
      if (exponent < text_.size() && (text_[exponent] == '+' || text_[exponent] == '-')) ++exponent;
      if (exponent < text_.size() && IsDigit(text_[exponent])) {
        is_float = true;
        end = DigitRun(exponent);
      }
    }
    std::string digits(text_.substr(begin, end - begin));
    std::erase(digits, '_');
    pos_ = end;
    return is_float ? EmitFloat(begin, digits) : EmitInteger(begin, digits, 10);
  }

  absl::Status LexBasedInteger(int base) {
    const size_t begin = pos_;
    pos_ += 2;
    std::string digits;
    for (; pos_ < text_.size() && IsNamePart(text_[pos_]) && (text_[pos_] & 0x80) == 0; ++pos_) {
      if (text_[pos_] != '_') digits += text_[pos_];
    }
    return EmitInteger(begin, digits, base);
  }

  absl::Status EmitInteger(size_t begin, const std::string& digits, int base) {
    int64_t value = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (error != std::errc() || end != digits.data() + digits.size()) {
      return Fail(begin, "an integer that is malformed or beyond 64 bits");
    }
    Emit(TokenKind::kInteger, begin, "");
    tokens_.back().integer = value;
    return absl::OkStatus();
  }

  absl::Status EmitFloat(size_t begin, const std::string& digits) {
    double value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc()) return Fail(begin, "a number beyond the range of floats");
    Emit(TokenKind::kFloat, begin, "");
    tokens_.back().number = value;
    return absl::OkStatus();
  }

  absl::Status LexOperator() {
    static constexpr std::string_view kOperators[] = {
        "//", "**", "==", "!=", "<=", ">=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    for (const std::string_view op : kOperators) {
      if (text_.substr(pos_, op.size()) != op) continue;
      RETURN_IF_ERROR(Balance(op));
      Emit(TokenKind::kOperator, pos_, std::string(op));
      pos_ += op.size();
      return absl::OkStatus();
    }
    return Fail(pos_, absl::StrCat("unexpected char '", ToAbsl(text_.substr(pos_, 1)), "'"));
  }

  absl::Status Balance(std::string_view op) {
    if (op == "(") brackets_ += ')';
    if (op == "[") brackets_ += ']';
    if (op == "{") brackets_ += '}';
    if (op != ")" && op != "]" && op != "}") return absl::OkStatus();
    if (brackets_.empty()) return Fail(pos_, absl::StrCat("unexpected '", ToAbsl(op), "'"));
    if (brackets_.back() != op[0]) {
      return Fail(pos_, absl::StrCat("unexpected '", ToAbsl(op), "', expected '",
                                     brackets_.substr(brackets_.size() - 1), "'"));
    }
    brackets_.pop_back();
    return absl::OkStatus();
  }

  const std::string source_;
  const std::string_view text_;
  size_t pos_ = 0;
  bool line_starting_ = true;  // what was read last ended in a line break
  std::string brackets_;       // the closing brackets still expected in this tag
  size_t counted_ = 0;         // PositionAt has seen so many bytes
  int32_t line_ = 1;
  size_t line_start_ = 0;
  std::vector<Token> tokens_;
};

}  // namespace

absl::Status ErrorAt(Position position, std::string_view message) {
  return absl::InvalidArgumentError(
      absl::StrCat("line ", position.line, ", column ", position.column, ": ", ToAbsl(message)));
}

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source) {
  return Lexer(NormalizeNewlines(source)).Run();
}

}  // namespace penstock::jinja
