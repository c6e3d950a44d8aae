// Python's operators on values.
// Owns nothing. Must not know syntax.
// Threads: n/a; pure functions of their arguments and the runtime.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace penstock::jinja {

/// + - * / // % **
absl::StatusOr<Value> ApplyBinary(Runtime& runtime, std::string_view op, const Value& left,
                                  const Value& right);
absl::StatusOr<Value> Negate(const Value& value);
/// Unary +.
absl::StatusOr<Value> Posate(const Value& value);
/// -1, 0, 1, or 2 where a NaN makes both false. TypeError where the two have no order; `op` is for
/// its message.
absl::StatusOr<int> Order(const Value& left, const Value& right, std::string_view op);
/// `item in container`
absl::StatusOr<bool> Contains(Runtime& runtime, const Value& container, const Value& item);

}  // namespace penstock::jinja
