#include "text/jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/jinja/format.h"
#include "text/jinja/safe_text.h"
#include "text/jinja/text_functions.h"

namespace penstock::jinja {
namespace {

absl::Status Unsupported(std::string_view op, const Value& left, const Value& right) {
  return TypeError(absl::StrCat("unsupported operand type(s) for ", ToAbsl(op), ": '",
                                ToAbsl(left.type_name()), "' and '", ToAbsl(right.type_name()),
                                "'"));
}

absl::Status TooLarge() {
  return absl::InvalidArgumentError("OverflowError: an integer beyond 64 bits");
}

absl::Status DivisionByZero() {
  return absl::InvalidArgumentError("ZeroDivisionError: division by zero");
}

int64_t FloorDivide(int64_t a, int64_t b) {
  const int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

double FloorModulo(double a, double b) {
  const double rest = std::fmod(a, b);
  if (rest == 0) return std::copysign(0.0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

double FloorDivide(double a, double b) {
  const double quotient = (a - FloorModulo(a, b)) / b;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1 : whole;
}

absl::StatusOr<Value> IntegerPower(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return DivisionByZero();
    return Value::Float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) return TooLarge();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) return TooLarge();
  }
  return Value::Int(result);
}

absl::StatusOr<Value> IntegerArithmetic(std::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  if (op == "+")
    return __builtin_add_overflow(a, b, &result) ? absl::StatusOr<Value>(TooLarge())
                                                 : Value::Int(result);
  if (op == "-")
    return __builtin_sub_overflow(a, b, &result) ? absl::StatusOr<Value>(TooLarge())
                                                 : Value::Int(result);
  if (op == "*")
    return __builtin_mul_overflow(a, b, &result) ? absl::StatusOr<Value>(TooLarge())
                                                 : Value::Int(result);
  if (op == "**") return IntegerPower(a, b);
  if (b == 0) return DivisionByZero();
  if (op == "/") return Value::Float(static_cast<double>(a) / static_cast<double>(b));
  if (a == std::numeric_limits<int64_t>::min() && b == -1)
    return op == "%" ? absl::StatusOr<Value>(Value::Int(0)) : TooLarge();
  const int64_t quotient = FloorDivide(a, b);
  return Value::Int(op == "//" ? quotient : a - quotient * b);
}

absl::StatusOr<Value> FloatArithmetic(std::string_view op, double a, double b) {
  if (op == "+") return Value::Float(a + b);
  if (op == "-") return Value::Float(a - b);
  if (op == "*") return Value::Float(a * b);
  if (op == "**") {
    if (a == 0 && b < 0) return DivisionByZero();
    if (a < 0 && b != std::floor(b)) return ValueError("a power that is a complex number");
    return Value::Float(std::pow(a, b));
  }
  if (b == 0) return DivisionByZero();
  if (op == "/") return Value::Float(a / b);
  if (op == "%") return Value::Float(FloorModulo(a, b));
  return Value::Float(FloorDivide(a, b));
}

absl::StatusOr<Value> Repeat(Runtime& runtime, const Value& value, int64_t times) {
  times = std::max<int64_t>(times, 0);
  if (value.is_string()) {
    const std::string& unit = value.string();
    const auto bytes = static_cast<unsigned __int128>(unit.size()) * static_cast<uint64_t>(times);
    RETURN_IF_ERROR(runtime.ChargeText(static_cast<uint64_t>(
        std::min<unsigned __int128>(bytes, std::numeric_limits<uint64_t>::max()))));
    std::string out;
    out.reserve(static_cast<size_t>(bytes));
    for (int64_t i = 0; i < times && !unit.empty(); ++i) out += unit;
    return Value::StringLike(value, std::move(out));
  }
  const std::vector<Value>& unit = value.items();
  const auto count = static_cast<unsigned __int128>(unit.size()) * static_cast<uint64_t>(times);
  RETURN_IF_ERROR(runtime.ChargeItems(static_cast<uint64_t>(
      std::min<unsigned __int128>(count, std::numeric_limits<uint64_t>::max()))));
  std::vector<Value> out;
  for (int64_t i = 0; i < times && !unit.empty(); ++i)
    out.insert(out.end(), unit.begin(), unit.end());
  return value.is_list() ? Value::MakeList(std::move(out)) : Value::MakeTuple(std::move(out));
}

std::string Escaped(const Value& text) {
  return text.is_safe() ? text.string() : EscapeHtml(text.string());
}

absl::StatusOr<Value> Add(Runtime& runtime, const Value& left, const Value& right) {
  if (left.is_string() && right.is_string()) {
    RETURN_IF_ERROR(runtime.ChargeText(left.string().size() + right.string().size()));
    if (left.is_safe() || right.is_safe()) return Value::Safe(Escaped(left) + Escaped(right));
    return Value::String(left.string() + right.string());
  }
  if ((left.is_list() && right.is_list()) || (left.is_tuple() && right.is_tuple())) {
    RETURN_IF_ERROR(runtime.ChargeItems(left.items().size() + right.items().size()));
    std::vector<Value> items = left.items();
    items.insert(items.end(), right.items().begin(), right.items().end());
    return left.is_list() ? Value::MakeList(std::move(items)) : Value::MakeTuple(std::move(items));
  }
  if (left.is_string() || left.is_sequence()) {
    return TypeError(absl::StrCat("can only concatenate ", ToAbsl(left.type_name()), " (not \"",
                                  ToAbsl(right.type_name()), "\") to ", ToAbsl(left.type_name())));
  }
  return Unsupported("+", left, right);
}

int Sign(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return 2;
  return a < b ? -1 : a > b ? 1 : 0;
}

}  // namespace

absl::StatusOr<Value> ApplyBinary(Runtime& runtime, std::string_view op, const Value& left,
                                  const Value& right) {
  if (op == "%" && left.is_string()) {
    ASSIGN_OR_RETURN(
        std::string text,
        FormatPercent(runtime, left.string(), left.is_safe() ? EscapeArgument(right) : right));
    return Value::StringLike(left, std::move(text));
  }
  if (left.is_undefined()) return UndefinedError(left);
  if (right.is_undefined()) return UndefinedError(right);
  if (left.is_integral() && right.is_integral())
    return IntegerArithmetic(op, left.integer(), right.integer());
  if (left.is_number() && right.is_number())
    return FloatArithmetic(op, left.number(), right.number());
  if (op == "+") return Add(runtime, left, right);
  if (op == "*") {
    if ((left.is_string() || left.is_sequence()) && right.is_integral())
      return Repeat(runtime, left, right.integer());
    if ((right.is_string() || right.is_sequence()) && left.is_integral())
      return Repeat(runtime, right, left.integer());
  }
  return Unsupported(op == "**" ? "** or pow()" : op, left, right);
}

absl::StatusOr<Value> Negate(const Value& value) {
  if (value.is_undefined()) return UndefinedError(value);
  if (value.is_float()) return Value::Float(-value.number());
  if (!value.is_integral()) {
    return TypeError(
        absl::StrCat("bad operand type for unary -: '", ToAbsl(value.type_name()), "'"));
  }
  if (value.integer() == std::numeric_limits<int64_t>::min()) return TooLarge();
  return Value::Int(-value.integer());
}

absl::StatusOr<Value> Posate(const Value& value) {
  if (value.is_undefined()) return UndefinedError(value);
  if (value.is_float()) return value;
  if (value.is_integral()) return Value::Int(value.integer());
  return TypeError(absl::StrCat("bad operand type for unary +: '", ToAbsl(value.type_name()), "'"));
}

absl::StatusOr<int> Order(const Value& left, const Value& right, std::string_view op) {
  if (left.is_undefined()) return UndefinedError(left);
  if (right.is_undefined()) return UndefinedError(right);
  if (left.is_integral() && right.is_integral()) {
    return left.integer() < right.integer() ? -1 : left.integer() > right.integer() ? 1 : 0;
  }
  if (left.is_number() && right.is_number()) return Sign(left.number(), right.number());
  if (left.is_string() && right.is_string()) {
    const int order =
        left.string().compare(right.string());  // UTF-8 keeps the order of code points
    return order < 0 ? -1 : order > 0 ? 1 : 0;
  }
  if ((left.is_list() && right.is_list()) || (left.is_tuple() && right.is_tuple())) {
    const size_t common = std::min(left.items().size(), right.items().size());
    for (size_t i = 0; i < common; ++i) {
      if (!(left.items()[i] == right.items()[i]))
        return Order(left.items()[i], right.items()[i], op);
    }
    const size_t a = left.items().size();
    const size_t b = right.items().size();
    return a < b ? -1 : a > b ? 1 : 0;
  }
  return TypeError(absl::StrCat("'", ToAbsl(op), "' not supported between instances of '",
                                ToAbsl(left.type_name()), "' and '", ToAbsl(right.type_name()),
                                "'"));
}

absl::StatusOr<bool> Contains(Runtime& runtime, const Value& container, const Value& item) {
  if (container.is_string()) {
    if (!item.is_string()) {
      return TypeError(absl::StrCat("'in <string>' requires string as left operand, not ",
                                    ToAbsl(item.type_name())));
    }
    RETURN_IF_ERROR(runtime.Charge(static_cast<int64_t>(container.string().size() >> 8)));
    return container.string().find(item.string()) != std::string::npos;
  }
  if (container.is_dict()) {
    if (!item.hashable()) return UnhashableError(item);
    return container.dict().Find(item) != nullptr;
  }
  if (!IsIterable(container)) {
    return TypeError(
        absl::StrCat("argument of type '", ToAbsl(container.type_name()), "' is not iterable"));
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Iterator> iterator, Iterate(container));
  while (true) {
    ASSIGN_OR_RETURN(const std::optional<Value> candidate, iterator->Next());
    if (!candidate) return false;
    RETURN_IF_ERROR(runtime.Charge(1));
    if (*candidate == item) return true;
  }
}

}  // namespace penstock::jinja
