// Filters of numbers, and those that give one value for any.
#include <charconv>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/jinja/filters.h"
#include "text/jinja/format.h"
#include "text/jinja/methods.h"
#include "text/jinja/objects.h"
#include "text/jinja/operators.h"
#include "text/jinja/text_functions.h"

namespace penstock::jinja {
namespace {

using Result = absl::StatusOr<Value>;
using Bound = std::vector<std::optional<Value>>;

// The digits of a Python number: without white space around and single underscores within.
std::optional<std::string> CleanNumber(std::string_view text) {
  text = Strip(text, std::nullopt, true, true);
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
      continue;
    }
    const auto alnum = [](char c) {
      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    };
    if (i == 0 || i + 1 == text.size() || !alnum(text[i - 1]) || !alnum(text[i + 1]))
      return std::nullopt;
  }
  return out;
}

std::optional<int64_t> ParseInteger(std::string_view text, int base) {
  const std::optional<std::string> clean = CleanNumber(text);
  if (!clean || clean->empty()) return std::nullopt;
  std::string_view digits = *clean;
  const bool negative = digits[0] == '-';
  if (digits[0] == '-' || digits[0] == '+') digits.remove_prefix(1);
  const char marker =
      digits.size() > 2 && digits[0] == '0' ? static_cast<char>(digits[1] | 0x20) : '\0';
  const int marked = marker == 'x' ? 16 : marker == 'o' ? 8 : marker == 'b' ? 2 : 0;
  if (marked != 0 && (base == marked || base == 0)) {
    digits.remove_prefix(2);
    base = marked;
  }
  if (base == 0) base = 10;
  if (base < 2 || base > 36 || digits.empty() || digits[0] == '-') return std::nullopt;
  uint64_t magnitude = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), magnitude, base);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  if (magnitude > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
  return negative ? -static_cast<int64_t>(magnitude) : static_cast<int64_t>(magnitude);
}

std::optional<double> ParseFloat(std::string_view text) {
  const std::optional<std::string> clean = CleanNumber(text);
  if (!clean || clean->empty()) return std::nullopt;
  std::string_view digits = *clean;
  const bool negative = digits[0] == '-';
  if (digits[0] == '-' || digits[0] == '+') digits.remove_prefix(1);
  if (digits.empty() || digits[0] == '-' || digits.find('(') != std::string_view::npos)
    return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (end != digits.data() + digits.size() || error == std::errc::invalid_argument)
    return std::nullopt;
  if (error == std::errc::result_out_of_range) {
    value =
        digits.find("e-") != std::string_view::npos || digits.find("E-") != std::string_view::npos
            ? 0
            : std::numeric_limits<double>::infinity();
  }
  return negative ? -value : value;
}

absl::StatusOr<Value> Truncated(double value, const Value& absent) {
  if (std::isnan(value)) return absent;
  if (std::isinf(value))
    return absl::InvalidArgumentError("OverflowError: cannot convert float infinity to integer");
  if (std::abs(value) >= 9.2e18)
    return absl::InvalidArgumentError("OverflowError: an integer beyond 64 bits");
  return Value::Int(static_cast<int64_t>(value));
}

Result ToInteger(Runtime&, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("int", {"default", "base"}, 0, arguments));
  const Value absent = bound[0].value_or(Value::Int(0));
  ASSIGN_OR_RETURN(const int64_t base, IntegerOr(bound[1], 10));
  if (value.is_undefined()) return UndefinedError(value);
  if (value.As<WideInteger>() != nullptr) return value;
  if (value.is_integral()) return Value::Int(value.integer());
  if (value.is_float()) return Truncated(value.number(), absent);
  if (!value.is_string()) return absent;
  if (const auto integer = ParseInteger(value.string(), static_cast<int>(base)))
    return Value::Int(*integer);
  const std::optional<double> number = ParseFloat(value.string());
  return number ? Truncated(*number, absent) : Result(absent);
}

Result ToFloat(Runtime&, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("float", {"default"}, 0, arguments));
  const Value absent = bound[0].value_or(Value::Float(0));
  if (value.is_undefined()) return UndefinedError(value);
  if (value.is_number()) return Value::Float(value.number());
  if (!value.is_string()) return absent;
  const std::optional<double> number = ParseFloat(value.string());
  return number ? Value::Float(*number) : absent;
}

Result Abs(Runtime&, const Value& value, const Arguments&) {
  if (value.is_undefined()) return UndefinedError(value);
  if (value.is_float()) return Value::Float(std::abs(value.number()));
  if (!value.is_integral())
    return TypeError(absl::StrCat("bad operand type for abs(): '", ToAbsl(value.type_name()), "'"));
  return value.integer() < 0 ? Negate(value) : Result(Value::Int(value.integer()));
}

// To the nearest, halves to the even digit, of the exact binary value.
double RoundHalfEven(double value, int64_t precision) {
  if (!std::isfinite(value) || precision > 300) return value;
  if (precision < 0) {
    const double scale = std::pow(10.0, static_cast<double>(-precision));
    return std::nearbyint(value / scale) * scale;
  }
  const std::string text = absl::StrFormat("%.*f", static_cast<int>(precision), value);
  double rounded = value;
  std::from_chars(text.data(), text.data() + text.size(), rounded);
  return rounded;
}

Result Round(Runtime&, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("round", {"precision", "method"}, 0, arguments));
  ASSIGN_OR_RETURN(const int64_t precision, IntegerOr(bound[0], 0));
  ASSIGN_OR_RETURN(const std::string method, TextOr(bound[1], "common"));
  if (method != "common" && method != "ceil" && method != "floor") {
    return absl::InvalidArgumentError("method must be common, ceil or floor");
  }
  if (value.is_undefined()) return UndefinedError(value);
  if (!value.is_number())
    return TypeError(
        absl::StrCat("type ", ToAbsl(value.type_name()), " doesn't define __round__ method"));
  if (precision > 300 || precision < -300) return ValueError("precision too big");
  if (method == "common") {
    if (value.is_integral() && precision >= 0) return Value::Int(value.integer());
    const double rounded = RoundHalfEven(value.number(), precision);
    return value.is_integral() ? Truncated(rounded, value) : Result(Value::Float(rounded));
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = value.number() * scale;
  const double whole = method == "ceil" ? std::ceil(scaled) : std::floor(scaled);
  return Value::Float((whole + 0.0) / scale);  // an integer has no -0
}

Result FileSize(Runtime&, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("filesizeformat", {"binary"}, 0, arguments));
  const bool binary = TruthOr(bound[0], false);
  std::optional<double> bytes;
  if (value.is_number()) bytes = value.number();
  if (value.is_string()) bytes = ParseFloat(value.string());
  if (!bytes || !std::isfinite(*bytes)) return ValueError("could not convert to float");
  const double base = binary ? 1024 : 1000;
  if (*bytes == 1) return Value::String("1 Byte");
  if (*bytes < base)
    return Value::String(absl::StrFormat("%d Bytes", static_cast<int64_t>(*bytes)));
  double unit = base * base;
  const std::string_view letters = binary ? "KMGTPEZY" : "kMGTPEZY";
  size_t i = 0;
  for (; i + 1 < letters.size() && *bytes >= unit; ++i) unit *= base;
  return Value::String(
      absl::StrFormat("%.1f %c%s", base * *bytes / unit, letters[i], binary ? "iB" : "B"));
}

Result Default(Runtime&, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("default", {"default_value", "boolean"}, 0, arguments));
  const bool replace = value.is_undefined() || (TruthOr(bound[1], false) && !value.Truthy());
  return replace ? bound[0].value_or(Value::String("")) : value;
}

Result LengthOf(Runtime&, const Value& value, const Arguments&) {
  ASSIGN_OR_RETURN(const int64_t length, Length(value));
  return Value::Int(length);
}

// Only attributes, never items.
Result Attribute(Runtime&, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("attr", {"name"}, 1, arguments));
  const std::string name = ToText(*bound[0]);
  if (value.is_dict() && FindDictMethod(name) == nullptr) {
    return Value::MakeUndefined(
        absl::StrCat("UndefinedError: 'dict object' has no attribute '", name, "'"));
  }
  return GetAttribute(value, name);
}

}  // namespace

const FilterTable& NumberFilters() {
  static const auto& table = *new FilterTable{
      {"int", ToInteger},           {"float", ToFloat},   {"abs", Abs},   {"round", Round},
      {"filesizeformat", FileSize}, {"default", Default}, {"d", Default}, {"length", LengthOf},
      {"count", LengthOf},          {"attr", Attribute},
  };
  return table;
}

}  // namespace penstock::jinja
