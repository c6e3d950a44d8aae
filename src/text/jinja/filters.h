// Jinja's built-in filters, by name.
// Owns nothing. Must not know syntax.
// Threads: n/a; pure functions of their arguments and the runtime.
#pragma once

#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace penstock::jinja {

using FilterFunction = absl::StatusOr<Value> (*)(Runtime& runtime, const Value& value,
                                                 const Arguments& arguments);
using FilterTable = absl::flat_hash_map<std::string_view, FilterFunction>;

/// nullptr where there is none.
FilterFunction FindFilter(std::string_view name);

// The tables that it searches.
const FilterTable& TextFilters();
const FilterTable& NumberFilters();
const FilterTable& ListFilters();
const FilterTable& SelectFilters();

// Single filters of TextFilters.
absl::StatusOr<Value> PrettyPrint(Runtime& runtime, const Value& value, const Arguments& arguments);
absl::StatusOr<Value> WordWrap(Runtime& runtime, const Value& value, const Arguments& arguments);
absl::StatusOr<Value> Urlize(Runtime& runtime, const Value& value, const Arguments& arguments);

}  // namespace penstock::jinja
