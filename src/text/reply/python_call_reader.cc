#include "text/reply/python_call_reader.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/utf8.h"
#include "text/reply/function_name.h"

namespace penstock {
namespace {

using PythonJson = nlohmann::ordered_json;

constexpr int kMostPythonDepth = 64;
constexpr size_t kMostPythonName = 256;

bool IsWordByte(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '-' ||
         c == '+';
}

int PythonHexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

class LiteralReader {
 public:
  explicit LiteralReader(std::string_view text) : text_(text) {}

  std::optional<PythonJson> ReadAll() {
    PythonJson value;
    if (!Read(value, 0)) return std::nullopt;
    Skip();
    if (at_ != text_.size()) return std::nullopt;
    return value;
  }

 private:
  void Skip() {
    while (at_ < text_.size() && IsSpaceByte(text_[at_])) ++at_;
  }
  bool Take(char c) {
    Skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  bool Read(PythonJson& value, int depth) {
    Skip();
    if (at_ >= text_.size() || depth > kMostPythonDepth) return false;
    const char c = text_[at_];
    if (c == '"' || c == '\'') return ReadString(value);
    if (Take('[')) return ReadItems(value, ']', depth);
    if (Take('(')) return ReadItems(value, ')', depth);
    if (Take('{')) return ReadMembers(value, depth);
    return ReadWord(value);
  }

  bool ReadItems(PythonJson& value, char end, int depth) {
    value = PythonJson::array();
    while (!Take(end)) {
      PythonJson item;
      if (!Read(item, depth + 1)) return false;
      value.push_back(std::move(item));
      if (Take(end)) break;
      if (!Take(',')) return false;
    }
    return true;
  }

  bool ReadMembers(PythonJson& value, int depth) {
    value = PythonJson::object();
    while (!Take('}')) {
      PythonJson key, member;
      if (!Read(key, depth + 1) || !key.is_string() || !Take(':') || !Read(member, depth + 1))
        return false;
      value[key.get<std::string>()] = std::move(member);
      if (Take('}')) break;
      if (!Take(',')) return false;
    }
    return true;
  }

  bool ReadWord(PythonJson& value) {
    const size_t begin = at_;
    while (at_ < text_.size() && IsWordByte(text_[at_])) ++at_;
    const std::string_view word = text_.substr(begin, at_ - begin);
    if (word == "True" || word == "true") {
      value = true;
    } else if (word == "False" || word == "false") {
      value = false;
    } else if (word == "None" || word == "null") {
      value = nullptr;
    } else {
      value = PythonJson::parse(word, nullptr, false);
      return value.is_number();
    }
    return true;
  }

  bool ReadString(PythonJson& value) {
    const char quote = text_[at_++];
    std::string out;
    while (at_ < text_.size() && text_[at_] != quote) {
      const char c = text_[at_++];
      if (c != '\\') {
        out += c;
      } else if (at_ == text_.size() || !ReadEscape(out)) {
        return false;
      }
    }
    if (at_ == text_.size()) return false;
    ++at_;
    value = std::move(out);
    return true;
  }

  bool ReadEscape(std::string& out) {
    const char c = text_[at_++];
    constexpr std::string_view kNames = "nrtbfva0", kValues("\n\r\t\b\f\v\a\0", 8);
    if (const size_t known = kNames.find(c); known != std::string_view::npos) {
      out += kValues[known];
      return true;
    }
    const int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits == 0) {  // Python keeps the backslash before what is no escape
      if (c != '\\' && c != '\'' && c != '"' && c != '\n' && c != '/') out += '\\';
      if (c != '\n') out += c;
      return true;
    }
    uint32_t code = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      const int digit = at_ < text_.size() ? PythonHexDigit(text_[at_]) : -1;
      if (digit < 0) return false;
      code = code * 16 + static_cast<uint32_t>(digit);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return false;
    AppendUtf8(static_cast<char32_t>(code), &out);
    return true;
  }

  const std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

bool PythonLiteralToJson(std::string_view literal, std::string& json) {
  const std::string_view text = TrimmedText(literal);
  if (!PythonJson::parse(text, nullptr, false).is_discarded()) {
    json = std::string(text);
    return true;
  }
  const std::optional<PythonJson> value = LiteralReader(text).ReadAll();
  if (!value) return false;
  json = value->dump(-1, ' ', false, PythonJson::error_handler_t::replace);
  return true;
}

PythonCallReader::Event PythonCallReader::Next(char c) {
  switch (state_) {
    case State::kName:
      if (c == '(') {
        taken_ = std::string(TrimmedText(std::exchange(text_, "")));
        state_ = State::kKey;
        return IsFunctionName(taken_) ? Event::kName : Event::kBad;
      }
      text_ += c;
      return text_.size() > kMostPythonName || !(IsWordByte(c) || c == ':' || c == '/')
                 ? Event::kBad
                 : Event::kNone;
    case State::kKey:
      if (c == ')') return TrimmedText(text_).empty() ? Event::kDone : Event::kBad;
      if (c == '=') {
        key_ = std::string(TrimmedText(std::exchange(text_, "")));
        state_ = State::kValue;
        return key_.empty() ? Event::kBad : Event::kNone;
      }
      text_ += c;
      return text_.size() > kMostPythonName || !(IsWordByte(c) || IsSpaceByte(c)) ? Event::kBad
                                                                                  : Event::kNone;
    case State::kValue:
      return InValue(c);
  }
  return Event::kBad;
}

PythonCallReader::Event PythonCallReader::InValue(char c) {
  if (quote_ != '\0') {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == quote_) {
      quote_ = '\0';
    }
    text_ += c;
    return Event::kNone;
  }
  if (depth_ == 0 && (c == ',' || c == ')')) {
    if (!EndValue()) return Event::kBad;
    state_ = State::kKey;
    return c == ',' ? Event::kArgument : Event::kLastArgument;
  }
  if (c == '"' || c == '\'') quote_ = c;
  if (c == '[' || c == '{' || c == '(') ++depth_;
  if (c == ']' || c == '}' || c == ')') --depth_;
  text_ += c;
  return depth_ < 0 ? Event::kBad : Event::kNone;
}

bool PythonCallReader::EndValue() {
  std::string value;
  if (!PythonLiteralToJson(std::exchange(text_, ""), value)) return false;
  taken_ = absl::StrCat(PythonJson(key_).dump(-1, ' ', false, PythonJson::error_handler_t::replace),
                        ": ", value);
  return true;
}

}  // namespace penstock
