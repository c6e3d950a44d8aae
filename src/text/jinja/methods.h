// Attributes, items and methods of values, as Jinja's immutable sandbox lets a template see them.
// Owns nothing. Must not know syntax.
// Threads: n/a; pure functions of their arguments and the runtime.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace penstock::jinja {

/// `value.name`: the attribute, else the item, else an undefined value.
absl::StatusOr<Value> GetAttribute(const Value& value, std::string_view name);
/// `value[key]`: the item, else the attribute, else an undefined value.
absl::StatusOr<Value> GetItem(const Value& value, const Value& key);
/// `value[start:stop:step]`; absent bounds are none.
absl::StatusOr<Value> GetSlice(Runtime& runtime, const Value& value, const Value& start,
                               const Value& stop, const Value& step);

using MethodFunction = absl::StatusOr<Value> (*)(Runtime& runtime, const Value& self,
                                                 const Arguments& arguments);
/// The method of a type, or nullptr.
MethodFunction FindStringMethod(std::string_view name);
MethodFunction FindDictMethod(std::string_view name);
MethodFunction FindListMethod(std::string_view name);

}  // namespace penstock::jinja
