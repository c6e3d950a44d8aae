// Python's % formatting, str.format and the format specification mini-language.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "text/jinja/format.h"
#include "text/jinja/methods.h"

namespace penstock::jinja {
namespace {

struct Spec {
  std::string fill = " ";
  char align = 0;   // < > ^ =
  char sign = '-';  // - + or a blank
  bool alternate = false;
  int64_t width = 0;
  char grouping = 0;  // , or _
  int64_t precision = -1;
  char type = 0;
};

std::string GroupDigits(const std::string& digits, char separator, size_t group) {
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % group == 0) out += separator;
    out += digits[i];
  }
  return out;
}

// "-12.5e3" to sign, whole digits and the rest.
struct NumberText {
  std::string sign;
  std::string prefix;  // 0x and the like
  std::string digits;
  std::string rest;
};

std::string IntegerDigits(uint64_t value, int base, bool upper) {
  const std::string_view digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string out;
  do {
    out += digits[value % static_cast<uint64_t>(base)];
    value /= static_cast<uint64_t>(base);
  } while (value > 0);
  std::reverse(out.begin(), out.end());
  return out;
}

NumberText WriteInteger(int64_t value, const Spec& spec) {
  NumberText text;
  const uint64_t magnitude =
      value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  const int base = spec.type == 'x' || spec.type == 'X' ? 16
                   : spec.type == 'o'                   ? 8
                   : spec.type == 'b'                   ? 2
                                                        : 10;
  text.digits = IntegerDigits(magnitude, base, spec.type == 'X');
  if (spec.alternate && base != 10) text.prefix = std::string("0") + spec.type;
  if (spec.grouping != 0) text.digits = GroupDigits(text.digits, spec.grouping, base == 10 ? 3 : 4);
  text.sign = value < 0 ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  return text;
}

absl::StatusOr<NumberText> WriteFloat(double value, const Spec& spec) {
  NumberText text;
  text.sign = std::signbit(value) && !std::isnan(value) ? "-"
              : spec.sign == '-'                        ? ""
                                                        : std::string(1, spec.sign);
  value = std::abs(value);
  std::string all;
  const int precision = static_cast<int>(spec.precision < 0 ? 6 : spec.precision);
  switch (spec.type) {
    case 0: {
      if (spec.precision < 0) {
        all = ReprFloat(value);
        break;
      }
      all = absl::StrFormat("%.*g", std::max(precision, 1), value);
      if (all.find_first_of(".en") == std::string::npos) all += ".0";
      break;
    }
    case 'e':
      all = absl::StrFormat("%.*e", precision, value);
      break;
    case 'E':
      all = absl::StrFormat("%.*E", precision, value);
      break;
    case 'f':
    case 'F':
      all = absl::StrFormat("%.*f", precision, value);
      break;
    case 'g':
    case 'n':
      all = absl::StrFormat("%.*g", std::max(precision, 1), value);
      break;
    case 'G':
      all = absl::StrFormat("%.*G", std::max(precision, 1), value);
      break;
    case '%':
      all = absl::StrFormat("%.*f%%", precision, value * 100);
      break;
    default:
      return ValueError(absl::StrCat("Unknown format code '", std::string(1, spec.type),
                                     "' for object of type 'float'"));
  }
  const size_t whole = std::min(all.find_first_not_of("0123456789"), all.size());
  text.digits = all.substr(0, whole);
  text.rest = all.substr(whole);
  if (spec.grouping != 0) text.digits = GroupDigits(text.digits, spec.grouping, 3);
  return text;
}

absl::StatusOr<std::string> Pad(Runtime& runtime, const std::string& text, const Spec& spec,
                                char default_align, size_t inner = 0) {
  const auto length = static_cast<int64_t>(CountCodePoints(text));
  if (spec.width <= length) return text;
  const auto missing = static_cast<uint64_t>(spec.width - length);
  RETURN_IF_ERROR(runtime.ChargeText(text.size() + missing * spec.fill.size()));
  const char align = spec.align == 0 ? default_align : spec.align;
  const uint64_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  std::string out = align == '=' ? text.substr(0, inner) : "";
  for (uint64_t i = 0; i < left; ++i) out += spec.fill;
  out += align == '=' ? text.substr(inner) : text;
  for (uint64_t i = left; i < missing; ++i) out += spec.fill;
  return out;
}

absl::StatusOr<int64_t> TakeNumber(std::string_view* text, int64_t absent) {
  size_t n = 0;
  while (n < text->size() && (*text)[n] >= '0' && (*text)[n] <= '9') ++n;
  if (n == 0) return absent;
  int64_t number = 0;
  if (!absl::SimpleAtoi(ToAbsl(text->substr(0, n)), &number) ||
      number > std::numeric_limits<int32_t>::max()) {
    return ValueError("Too many decimal digits in format string");
  }
  text->remove_prefix(n);
  return number;
}

absl::StatusOr<Spec> ParseSpec(std::string_view text) {
  Spec spec;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  const size_t first = text.empty() ? 0 : DecodeUtf8(text, 0).length;
  if (first < text.size() && is_align(text[first])) {
    spec.fill = std::string(text.substr(0, first));
    spec.align = text[first];
    text.remove_prefix(first + 1);
  } else if (!text.empty() && is_align(text[0])) {
    spec.align = text[0];
    text.remove_prefix(1);
  }
  const auto take = [&text](std::string_view any) {
    if (text.empty() || any.find(text[0]) == std::string_view::npos) return '\0';
    const char c = text[0];
    text.remove_prefix(1);
    return c;
  };
  if (const char sign = take("+- ")) spec.sign = sign;
  spec.alternate = take("#") != 0;
  if (take("0") != 0 && spec.align == 0) {
    spec.fill = "0";
    spec.align = '=';
  }
  ASSIGN_OR_RETURN(spec.width, TakeNumber(&text, 0));
  spec.grouping = take(",_");
  if (take(".") != 0) {
    ASSIGN_OR_RETURN(spec.precision, TakeNumber(&text, -1));
    if (spec.precision < 0) return ValueError("Format specifier missing precision");
    if (spec.precision > 1000) return ValueError("precision too big");
  }
  spec.type = take("bcdeEfFgGnosxX%");
  if (!text.empty()) return ValueError("Invalid format specifier");
  return spec;
}

absl::StatusOr<std::string> FormatNumber(Runtime& runtime, const Value& value, const Spec& spec) {
  constexpr std::string_view kFloatTypes = "eEfFgG%";
  NumberText number;
  if (value.is_integral() && kFloatTypes.find(spec.type) == std::string_view::npos) {
    if (spec.type == 's') return ValueError("Unknown format code 's' for object of type 'int'");
    if (spec.precision >= 0) return ValueError("Precision not allowed in integer format specifier");
    if (spec.type == 'c')
      return Pad(runtime, EncodeUtf8(static_cast<char32_t>(value.integer())), spec, '<');
    number = WriteInteger(value.integer(), spec);
  } else {
    ASSIGN_OR_RETURN(number, WriteFloat(value.number(), spec));
  }
  const std::string head = number.sign + number.prefix;
  return Pad(runtime, head + number.digits + number.rest, spec, '>', head.size());
}

std::string FirstCodePoints(const std::string& text, int64_t count) {
  size_t pos = 0;
  for (int64_t i = 0; i < count && pos < text.size(); ++i) pos += DecodeUtf8(text, pos).length;
  return text.substr(0, pos);
}

// One "%..." of a format; `text` starts behind the sign.
class PercentFormatter {
 public:
  PercentFormatter(Runtime& runtime, const Value& arguments)
      : runtime_(runtime), arguments_(arguments) {}

  absl::StatusOr<std::string> Format(std::string_view format) {
    std::string out;
    while (!format.empty()) {
      const size_t percent = std::min(format.find('%'), format.size());
      out += format.substr(0, percent);
      format.remove_prefix(percent);
      if (format.empty()) break;
      format.remove_prefix(1);
      RETURN_IF_ERROR(Directive(&format, &out));
      RETURN_IF_ERROR(runtime_.ChargeText(out.size()));
    }
    const bool all_used = !arguments_.is_tuple() ? used_ > 0 || arguments_.is_dict()
                                                 : used_ >= arguments_.items().size();
    if (!all_used && !mapped_)
      return TypeError("not all arguments converted during string formatting");
    return out;
  }

 private:
  absl::StatusOr<Value> NextArgument() {
    if (!arguments_.is_tuple()) {
      if (used_++ > 0) return TypeError("not enough arguments for format string");
      return arguments_;
    }
    if (used_ >= arguments_.items().size())
      return TypeError("not enough arguments for format string");
    return arguments_.items()[used_++];
  }

  absl::StatusOr<int64_t> NumberOrStar(std::string_view* format, int64_t absent) {
    if (format->empty() || format->front() != '*') return TakeNumber(format, absent);
    format->remove_prefix(1);
    ASSIGN_OR_RETURN(const Value value, NextArgument());
    if (!value.is_integral() || std::abs(value.integer()) > std::numeric_limits<int32_t>::max()) {
      return TypeError("* wants int");
    }
    return value.integer();
  }

  absl::Status Directive(std::string_view* format, std::string* out) {
    std::optional<Value> value;
    if (!format->empty() && format->front() == '(') {
      const size_t close = format->find(')');
      if (close == std::string_view::npos) return ValueError("incomplete format key");
      if (!arguments_.is_dict()) return TypeError("format requires a mapping");
      const Value* member = arguments_.dict().Find(format->substr(1, close - 1));
      if (member == nullptr)
        return absl::InvalidArgumentError(
            absl::StrCat("KeyError: ", ReprString(format->substr(1, close - 1))));
      value = *member;
      mapped_ = true;
      format->remove_prefix(close + 1);
    }
    Spec spec;
    for (; !format->empty() &&
           std::string_view("-+ #0").find(format->front()) != std::string_view::npos;
         format->remove_prefix(1)) {
      const char flag = format->front();
      if (flag == '-') spec.align = '<';
      if (flag == '+' || (flag == ' ' && spec.sign == '-')) spec.sign = flag;
      if (flag == '#') spec.alternate = true;
      if (flag == '0') spec.fill = "0";
    }
    ASSIGN_OR_RETURN(spec.width, NumberOrStar(format, 0));
    if (spec.width < 0) {
      spec.align = '<';
      spec.width = -spec.width;
    }
    if (!format->empty() && format->front() == '.') {
      format->remove_prefix(1);
      ASSIGN_OR_RETURN(spec.precision, NumberOrStar(format, 0));
      if (spec.precision > 1000) return ValueError("precision too big");
      spec.precision = std::max<int64_t>(spec.precision, 0);
    }
    while (!format->empty() &&
           std::string_view("hlL").find(format->front()) != std::string_view::npos) {
      format->remove_prefix(1);
    }
    if (format->empty()) return ValueError("incomplete format");
    spec.type = format->front();
    format->remove_prefix(1);
    if (spec.type == '%') {
      *out += '%';
      return absl::OkStatus();
    }
    if (!value) {
      ASSIGN_OR_RETURN(value, NextArgument());
    }
    ASSIGN_OR_RETURN(const std::string text, Convert(*value, spec));
    *out += text;
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Convert(const Value& value, Spec spec) {
    switch (spec.type) {
      case 's':
      case 'r':
      case 'a': {
        std::string text = spec.type == 's' ? ToText(value) : Repr(value);
        if (spec.precision >= 0) text = FirstCodePoints(text, spec.precision);
        spec.fill = " ";
        return Pad(runtime_, text, spec, '>');
      }
      case 'c': {
        spec.fill = " ";
        if (value.is_string() && CountCodePoints(value.string()) == 1)
          return Pad(runtime_, value.string(), spec, '>');
        if (!value.is_integral()) return TypeError("%c requires int or char");
        return Pad(runtime_, EncodeUtf8(static_cast<char32_t>(value.integer())), spec, '>');
      }
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        return ConvertInteger(value, spec);
      default:
        break;
    }
    if (std::string_view("eEfFgG").find(spec.type) == std::string_view::npos) {
      return ValueError(
          absl::StrCat("unsupported format character '", std::string(1, spec.type), "'"));
    }
    if (value.is_undefined()) return UndefinedError(value);
    if (!value.is_number())
      return TypeError(absl::StrCat("must be real number, not ", ToAbsl(value.type_name())));
    if (spec.fill == "0" && spec.align == 0) spec.align = '=';
    if (spec.align == '<') spec.fill = " ";
    return FormatNumber(runtime_, Value::Float(value.number()), spec);
  }

  absl::StatusOr<std::string> ConvertInteger(const Value& value, Spec spec) {
    const bool hexadecimal = spec.type == 'x' || spec.type == 'X' || spec.type == 'o';
    if (value.is_undefined()) return UndefinedError(value);
    if (!value.is_number() || (hexadecimal && !value.is_integral()) ||
        !(std::abs(value.number()) < 9.2e18)) {
      return TypeError(absl::StrCat("%", std::string(1, spec.type),
                                    " format: a real number is required, not ",
                                    ToAbsl(value.type_name())));
    }
    const int64_t integer =
        value.is_integral() ? value.integer() : static_cast<int64_t>(value.number());
    if (spec.type == 'i' || spec.type == 'u') spec.type = 'd';
    NumberText number = WriteInteger(integer, spec);
    while (static_cast<int64_t>(number.digits.size()) < spec.precision)
      number.digits.insert(0, 1, '0');
    const std::string head = number.sign + number.prefix;
    if (spec.align == '<') spec.fill = " ";
    if (spec.fill == "0") spec.align = '=';
    return Pad(runtime_, head + number.digits, spec, '>', head.size());
  }

  Runtime& runtime_;
  const Value& arguments_;
  size_t used_ = 0;
  bool mapped_ = false;
};

// "0.name[key]" of a replacement field.
absl::StatusOr<Value> FieldValue(std::string_view field, const Arguments& arguments, size_t* next) {
  const size_t end = std::min(field.find_first_of(".["), field.size());
  const std::string_view head = field.substr(0, end);
  field.remove_prefix(end);
  Value value;
  int64_t index = 0;
  if (head.empty() || absl::SimpleAtoi(ToAbsl(head), &index)) {
    if (head.empty()) index = static_cast<int64_t>((*next)++);
    if (index < 0 || index >= static_cast<int64_t>(arguments.positional.size())) {
      return absl::InvalidArgumentError(
          "IndexError: Replacement index out of range for positional args tuple");
    }
    value = arguments.positional[static_cast<size_t>(index)];
  } else {
    const auto it = std::find_if(arguments.named.begin(), arguments.named.end(),
                                 [&](const auto& named) { return named.first == head; });
    if (it == arguments.named.end())
      return absl::InvalidArgumentError(absl::StrCat("KeyError: ", ReprString(head)));
    value = it->second;
  }
  while (!field.empty()) {
    if (field.front() == '.') {
      const size_t stop = std::min(field.find_first_of(".[", 1), field.size());
      ASSIGN_OR_RETURN(value, GetAttribute(value, field.substr(1, stop - 1)));
      field.remove_prefix(stop);
      continue;
    }
    const size_t close = field.find(']');
    if (field.front() != '[' || close == std::string_view::npos)
      return ValueError("malformed field in format string");
    const std::string_view key = field.substr(1, close - 1);
    ASSIGN_OR_RETURN(value, GetItem(value, absl::SimpleAtoi(ToAbsl(key), &index)
                                               ? Value::Int(index)
                                               : Value::String(std::string(key))));
    field.remove_prefix(close + 1);
  }
  return value;
}

absl::StatusOr<std::string> Braces(Runtime& runtime, std::string_view format,
                                   const Arguments& arguments, size_t* next, int depth) {
  if (depth > 2) return ValueError("Max string recursion exceeded");
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    const char c = format[i];
    if (c != '{' && c != '}') {
      out += c;
      continue;
    }
    if (i + 1 < format.size() && format[i + 1] == c) {
      out += c;
      ++i;
      continue;
    }
    if (c == '}') return ValueError("Single '}' encountered in format string");
    size_t close = i + 1;
    for (int open = 1; close < format.size(); ++close) {
      if (format[close] == '{') ++open;
      if (format[close] == '}' && --open == 0) break;
    }
    if (close >= format.size()) return ValueError("expected '}' before end of string");
    std::string_view field = format.substr(i + 1, close - i - 1);
    i = close;
    const size_t colon = std::min(field.find(':'), field.size());
    const std::string_view spec = colon < field.size() ? field.substr(colon + 1) : "";
    field = field.substr(0, colon);
    const size_t bang = std::min(field.find('!'), field.size());
    const std::string_view conversion = bang < field.size() ? field.substr(bang + 1) : "";
    ASSIGN_OR_RETURN(Value value, FieldValue(field.substr(0, bang), arguments, next));
    if (conversion == "r" || conversion == "a") value = Value::String(Repr(value));
    if (conversion == "s") value = Value::String(ToText(value));
    ASSIGN_OR_RETURN(const std::string full_spec,
                     Braces(runtime, spec, arguments, next, depth + 1));
    ASSIGN_OR_RETURN(const std::string text, FormatSpec(runtime, value, full_spec));
    RETURN_IF_ERROR(runtime.ChargeText(out.size() + text.size()));
    out += text;
  }
  return out;
}

}  // namespace

absl::StatusOr<std::string> FormatPercent(Runtime& runtime, const std::string& format,
                                          const Value& arguments) {
  return PercentFormatter(runtime, arguments).Format(format);
}

absl::StatusOr<std::string> FormatSpec(Runtime& runtime, const Value& value,
                                       std::string_view text) {
  if (text.empty()) return ToText(value);
  ASSIGN_OR_RETURN(const Spec spec, ParseSpec(text));
  if (value.is_undefined()) return UndefinedError(value);
  if (value.is_number()) return FormatNumber(runtime, value, spec);
  if (!value.is_string()) {
    return TypeError(absl::StrCat("unsupported format string passed to ", ToAbsl(value.type_name()),
                                  ".__format__"));
  }
  if ((spec.type != 0 && spec.type != 's') || spec.align == '=' || spec.grouping != 0 ||
      spec.sign != '-' || spec.alternate) {
    return ValueError("a format for numbers, applied to text");
  }
  std::string content = ToText(value);
  if (spec.precision >= 0) content = FirstCodePoints(content, spec.precision);
  return Pad(runtime, content, spec, '<');
}

absl::StatusOr<std::string> FormatBraces(Runtime& runtime, const std::string& format,
                                         const Arguments& arguments) {
  size_t next = 0;
  return Braces(runtime, format, arguments, &next, 0);
}

}  // namespace penstock::jinja
