// Jinja's built-in tests (`x is name`), by name.
// Owns nothing. Must not know syntax.
// Threads: n/a; pure functions of their arguments and the runtime.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace penstock::jinja {

using TestFunction = absl::StatusOr<bool> (*)(Runtime& runtime, const Value& value,
                                              const Arguments& arguments);

/// nullptr where there is none.
TestFunction FindTest(std::string_view name);

}  // namespace penstock::jinja
