#include "text/jinja/tests.h"

#include <cmath>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/jinja/filters.h"
#include "text/jinja/format.h"
#include "text/jinja/objects.h"
#include "text/jinja/operators.h"
#include "text/jinja/text_functions.h"

namespace penstock::jinja {
namespace {

using Result = absl::StatusOr<bool>;

// A test of the value alone.
template <bool (*test)(const Value&)>
Result Plain(Runtime&, const Value& value, const Arguments& arguments) {
  if (!arguments.positional.empty() || !arguments.named.empty())
    return TypeError("the test takes no arguments");
  return test(value);
}

absl::StatusOr<Value> Other(const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("test", {"other"}, 1, arguments));
  return *bound[0];
}

bool IsDefined(const Value& v) { return !v.is_undefined(); }
bool IsUndefined(const Value& v) { return v.is_undefined(); }
bool IsNone(const Value& v) { return v.is_none(); }
bool IsBoolean(const Value& v) { return v.is_bool(); }
bool IsTrue(const Value& v) { return v.is_bool() && v.Truthy(); }
bool IsFalse(const Value& v) { return v.is_bool() && !v.Truthy(); }
bool IsInteger(const Value& v) { return v.is_int() || v.As<WideInteger>() != nullptr; }
bool IsFloat(const Value& v) { return v.is_float(); }
bool IsNumber(const Value& v) { return v.is_number() || v.As<WideInteger>() != nullptr; }
bool IsString(const Value& v) { return v.is_string(); }
bool IsMapping(const Value& v) { return v.is_dict(); }
bool IsIterableValue(const Value& v) { return IsIterable(v); }
bool IsCallable(const Value& v) {
  return v.is_undefined() || (v.is_object() && v.object()->callable());
}
bool IsEscaped(const Value& v) { return v.is_safe(); }
bool IsSequenceValue(const Value& v) {
  return v.is_undefined() || v.is_string() || v.is_sequence() || v.is_dict() ||
         (v.is_object() && v.object()->has_items());
}

template <bool upper>
Result IsCase(Runtime&, const Value& value, const Arguments&) {
  const std::string text = ToText(value);
  return ToUpper(text) != ToLower(text) && (upper ? ToUpper(text) : ToLower(text)) == text;
}

absl::StatusOr<Value> Remainder(Runtime& runtime, const Value& value, const Value& divisor) {
  return ApplyBinary(runtime, "%", value, divisor);
}

template <int64_t rest>
Result HasParity(Runtime& runtime, const Value& value, const Arguments&) {
  ASSIGN_OR_RETURN(const Value remainder, Remainder(runtime, value, Value::Int(2)));
  return remainder == Value::Int(rest);
}

Result DivisibleBy(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Value other, Other(arguments));
  ASSIGN_OR_RETURN(const Value remainder, Remainder(runtime, value, other));
  return remainder == Value::Int(0);
}

template <bool equal>
Result Equality(Runtime&, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Value other, Other(arguments));
  return (value == other) == equal;
}

// `wanted`: which of -1, 0, 1 hold, as bits 1, 2, 4.
template <int wanted>
Result Ordered(Runtime&, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Value other, Other(arguments));
  ASSIGN_OR_RETURN(const int order, Order(value, other, (wanted & 1) != 0 ? "<" : ">"));
  return order <= 1 && (wanted >> (order + 1) & 1) != 0;
}

Result IsIn(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Value container, Other(arguments));
  return Contains(runtime, container, value);
}

Result IsSame(Runtime&, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Value other, Other(arguments));
  return value.SameAs(other);
}

Result IsFilter(Runtime&, const Value& value, const Arguments&) {
  if (!value.hashable()) return UnhashableError(value);
  return value.is_string() && FindFilter(value.string()) != nullptr;
}

Result IsTest(Runtime&, const Value& value, const Arguments&) {
  if (!value.hashable()) return UnhashableError(value);
  return value.is_string() && FindTest(value.string()) != nullptr;
}

}  // namespace

TestFunction FindTest(std::string_view name) {
  static const auto& table = *new absl::flat_hash_map<std::string_view, TestFunction>{
      {"defined", Plain<IsDefined>},
      {"undefined", Plain<IsUndefined>},
      {"none", Plain<IsNone>},
      {"boolean", Plain<IsBoolean>},
      {"true", Plain<IsTrue>},
      {"false", Plain<IsFalse>},
      {"integer", Plain<IsInteger>},
      {"float", Plain<IsFloat>},
      {"number", Plain<IsNumber>},
      {"string", Plain<IsString>},
      {"mapping", Plain<IsMapping>},
      {"sequence", Plain<IsSequenceValue>},
      {"iterable", Plain<IsIterableValue>},
      {"callable", Plain<IsCallable>},
      {"escaped", Plain<IsEscaped>},
      {"upper", IsCase<true>},
      {"lower", IsCase<false>},
      {"odd", HasParity<1>},
      {"even", HasParity<0>},
      {"divisibleby", DivisibleBy},
      {"==", Equality<true>},
      {"eq", Equality<true>},
      {"equalto", Equality<true>},
      {"!=", Equality<false>},
      {"ne", Equality<false>},
      {"<", Ordered<1>},
      {"lt", Ordered<1>},
      {"lessthan", Ordered<1>},
      {"<=", Ordered<3>},
      {"le", Ordered<3>},
      {">", Ordered<4>},
      {"gt", Ordered<4>},
      {"greaterthan", Ordered<4>},
      {">=", Ordered<6>},
      {"ge", Ordered<6>},
      {"in", IsIn},
      {"sameas", IsSame},
      {"filter", IsFilter},
      {"test", IsTest},
  };
  const auto it = table.find(name);
  return it == table.end() ? nullptr : it->second;
}

}  // namespace penstock::jinja
