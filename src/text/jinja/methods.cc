#include "text/jinja/methods.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "text/jinja/format.h"
#include "text/jinja/objects.h"
#include "text/jinja/safe_text.h"

namespace penstock::jinja {
namespace {

// Attributes of Python's types that would change a value; the sandbox hands them out only to refuse
// their use.
bool IsForbidden(const Value& value, std::string_view name) {
  static constexpr std::array<std::string_view, 8> kList = {"append", "clear", "pop",    "reverse",
                                                            "insert", "sort",  "extend", "remove"};
  static constexpr std::array<std::string_view, 5> kDict = {"clear", "pop", "popitem", "setdefault",
                                                            "update"};
  const auto in = [name](const auto& names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (value.is_list()) return in(kList);
  return value.is_dict() && in(kDict);
}

MethodFunction FindMethod(const Value& value, std::string_view name) {
  if (value.is_string()) return FindStringMethod(name);
  if (value.is_dict()) return FindDictMethod(name);
  if (value.is_sequence()) return FindListMethod(name);
  return nullptr;
}

Value BindMethod(const Value& self, std::string_view name, MethodFunction method) {
  return Value::MakeObject(std::make_shared<Function>(
      std::string(name),
      [self, method](Runtime& runtime, const Arguments& arguments) {
        return method(runtime, self, arguments);
      },
      self.depth() + 1));
}

Value BindSafeMethod(const Value& self, std::string_view name) {
  return Value::MakeObject(std::make_shared<Function>(
      std::string(name),
      [self, name = std::string(name)](Runtime& runtime, const Arguments& arguments) {
        return CallSafeTextMethod(runtime, self, name, arguments);
      }));
}

// nullopt: there is no such attribute.
absl::StatusOr<std::optional<Value>> FindAttribute(const Value& value, std::string_view name) {
  if (IsForbidden(value, name) || name.substr(0, 2) == "__") {
    return Value::MakeUndefined(absl::StrCat("SecurityError: access to attribute '", ToAbsl(name),
                                             "' of '", ToAbsl(value.type_name()),
                                             "' object is unsafe."));
  }
  if (const MethodFunction method = FindMethod(value, name)) {
    return value.is_safe() ? BindSafeMethod(value, name) : BindMethod(value, name, method);
  }
  if (value.is_object()) return value.object()->Attribute(name);
  if (value.is_group() && (name == "grouper" || name == "list"))
    return value.items()[name == "list" ? 1 : 0];
  return std::nullopt;
}

// nullopt: there is no such item.
std::optional<Value> FindItem(const Value& value, const Value& key) {
  if (value.is_dict()) {
    const Value* member = value.dict().Find(key);
    return member == nullptr ? std::nullopt : std::optional<Value>(*member);
  }
  if (value.is_object())
    return value.object()->has_items() ? value.object()->Item(key) : std::nullopt;
  if (!key.is_integral()) return std::nullopt;
  int64_t index = key.integer();
  if (value.is_sequence()) {
    const auto size = static_cast<int64_t>(value.items().size());
    if (index < 0) index += size;
    if (index < 0 || index >= size) return std::nullopt;
    return value.items()[static_cast<size_t>(index)];
  }
  if (value.is_string()) {
    const std::u32string points = ToCodePoints(value.string());
    const auto size = static_cast<int64_t>(points.size());
    if (index < 0) index += size;
    if (index < 0 || index >= size) return std::nullopt;
    return Value::StringLike(value, EncodeUtf8(points[static_cast<size_t>(index)]));
  }
  return std::nullopt;
}

std::string OwnerName(const Value& value) {
  return value.is_none() ? "None" : absl::StrCat(ToAbsl(value.type_name()), " object");
}

Value NoAttribute(const Value& value, std::string_view name) {
  return Value::MakeUndefined(absl::StrCat("UndefinedError: '", OwnerName(value),
                                           "' has no attribute '", ToAbsl(name), "'"));
}

absl::StatusOr<std::optional<int64_t>> SliceBound(const Value& bound) {
  if (bound.is_none()) return std::nullopt;
  if (bound.is_undefined()) return UndefinedError(bound);
  if (!bound.is_integral())
    return TypeError("slice indices must be integers or None or have an __index__ method");
  return bound.integer();
}

// The positions that a slice picks from `size` items, as Python's slice.indices.
absl::StatusOr<std::vector<size_t>> SlicePositions(Runtime& runtime, int64_t size,
                                                   const Value& start_value,
                                                   const Value& stop_value,
                                                   const Value& step_value) {
  ASSIGN_OR_RETURN(const std::optional<int64_t> start_bound, SliceBound(start_value));
  ASSIGN_OR_RETURN(const std::optional<int64_t> stop_bound, SliceBound(stop_value));
  ASSIGN_OR_RETURN(const std::optional<int64_t> step_bound, SliceBound(step_value));
  const int64_t step = step_bound.value_or(1);
  if (step == 0) return ValueError("slice step cannot be zero");
  const int64_t low = step > 0 ? 0 : -1;
  const int64_t high = step > 0 ? size : size - 1;
  const auto clamp = [&](std::optional<int64_t> bound, int64_t absent) {
    if (!bound) return absent;
    const int64_t index = *bound < 0 ? std::max<int64_t>(*bound, -size - 1) + size : *bound;
    return std::clamp(index, low, high);
  };
  const int64_t start = clamp(start_bound, step > 0 ? low : high);
  const int64_t stop = clamp(stop_bound, step > 0 ? high : low);
  std::vector<size_t> positions;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    positions.push_back(static_cast<size_t>(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  RETURN_IF_ERROR(runtime.ChargeItems(positions.size()));
  return positions;
}

}  // namespace

absl::StatusOr<Value> GetAttribute(const Value& value, std::string_view name) {
  if (value.is_undefined()) return UndefinedError(value);
  ASSIGN_OR_RETURN(std::optional<Value> attribute, FindAttribute(value, name));
  if (attribute) return *std::move(attribute);
  if (value.is_dict()) {
    if (const Value* member = value.dict().Find(name)) return *member;
  }
  return NoAttribute(value, name);
}

absl::StatusOr<Value> GetItem(const Value& value, const Value& key) {
  if (value.is_undefined()) return UndefinedError(value);
  if (std::optional<Value> item = FindItem(value, key)) return *std::move(item);
  if (!key.is_string()) {
    return Value::MakeUndefined(
        absl::StrCat("UndefinedError: ", OwnerName(value), " has no element ", Repr(key)));
  }
  ASSIGN_OR_RETURN(std::optional<Value> attribute, FindAttribute(value, key.string()));
  return attribute ? *std::move(attribute) : NoAttribute(value, key.string());
}

absl::StatusOr<Value> GetSlice(Runtime& runtime, const Value& value, const Value& start,
                               const Value& stop, const Value& step) {
  if (value.is_undefined()) return UndefinedError(value);
  if (value.is_string()) {
    const std::u32string points = ToCodePoints(value.string());
    ASSIGN_OR_RETURN(
        const std::vector<size_t> positions,
        SlicePositions(runtime, static_cast<int64_t>(points.size()), start, stop, step));
    std::string out;
    for (const size_t i : positions) AppendUtf8(points[i], &out);
    return Value::StringLike(value, std::move(out));
  }
  const auto* range = value.As<Range>();
  if (!value.is_sequence() && range == nullptr) {
    return TypeError(absl::StrCat("'", ToAbsl(value.type_name()), "' object cannot be sliced"));
  }
  const int64_t size =
      range != nullptr ? range->size() : static_cast<int64_t>(value.items().size());
  ASSIGN_OR_RETURN(const std::vector<size_t> positions,
                   SlicePositions(runtime, size, start, stop, step));
  std::vector<Value> items;
  items.reserve(positions.size());
  for (const size_t i : positions) {
    items.push_back(range != nullptr ? Value::Int(range->at(static_cast<int64_t>(i)))
                                     : value.items()[i]);
  }
  return value.is_tuple() ? Value::MakeTuple(std::move(items)) : Value::MakeList(std::move(items));
}

}  // namespace penstock::jinja
