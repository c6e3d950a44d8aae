// What safe text does to the text that meets it: escapes it (Python's Markup).
// Owns nothing. Must not know syntax.
// Threads: n/a; pure functions.
#pragma once

#include <string_view>

#include "text/jinja/methods.h"
#include "text/jinja/value.h"

namespace penstock::jinja {

/// Text that is not safe becomes safe by escaping it, also within a tuple, list or dict; anything
/// else stays.
Value EscapeArgument(const Value& value);

/// Calls str's method `name`, which must exist, as safe text has it: arguments are escaped, texts
/// in the result safe.
absl::StatusOr<Value> CallSafeTextMethod(Runtime& runtime, const Value& self, std::string_view name,
                                         const Arguments& arguments);

}  // namespace penstock::jinja
