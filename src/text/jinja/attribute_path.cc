#include "text/jinja/attribute_path.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "base/status_macros.h"
#include "text/jinja/methods.h"
#include "text/jinja/text_functions.h"

namespace penstock::jinja {

AttributePath::AttributePath(const Value& attribute) {
  if (attribute.is_none()) return;
  if (!attribute.is_string()) {
    parts_.push_back(attribute);
    return;
  }
  for (std::string& part : SplitAt(attribute.string(), ".", -1, false)) {
    int64_t index = 0;
    const bool digits = !part.empty() && std::all_of(part.begin(), part.end(),
                                                     [](char c) { return c >= '0' && c <= '9'; });
    parts_.push_back(digits && absl::SimpleAtoi(part, &index) ? Value::Int(index)
                                                              : Value::String(std::move(part)));
  }
}

absl::StatusOr<Value> AttributePath::Get(Value item, const std::optional<Value>& absent) const {
  for (const Value& part : parts_) {
    ASSIGN_OR_RETURN(item, GetItem(item, part));
    if (absent && !absent->is_none() && item.is_undefined()) item = *absent;
  }
  return item;
}

Value IgnoreCase(const Value& value) {
  return value.is_string() ? Value::String(ToLower(value.string())) : value;
}

}  // namespace penstock::jinja
