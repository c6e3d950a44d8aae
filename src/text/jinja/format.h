// Values as text, the way Python writes them.
// Owns nothing. Must not know syntax.
// Threads: n/a; pure functions of their arguments and the runtime.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace penstock::jinja {

/// str(): what printing gives; nothing for an undefined value.
std::string ToText(const Value& value);
/// repr()
std::string Repr(const Value& value);
std::string ReprString(std::string_view text);
/// The shortest digits that read back as `value`, as repr(float).
std::string ReprFloat(double value);

struct JsonFormat {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::string indent;   // of one level
  bool pretty = false;  // line breaks, also with an empty indent
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
/// json.dumps; TypeError for what JSON has not.
absl::StatusOr<std::string> ToJson(Runtime& runtime, const Value& value, const JsonFormat& format);

/// `format % arguments`
absl::StatusOr<std::string> FormatPercent(Runtime& runtime, const std::string& format,
                                          const Value& arguments);
/// str.format
absl::StatusOr<std::string> FormatBraces(Runtime& runtime, const std::string& format,
                                         const Arguments& arguments);
/// format(value, spec)
absl::StatusOr<std::string> FormatSpec(Runtime& runtime, const Value& value, std::string_view spec);

/// strftime in the C locale.
absl::StatusOr<std::string> FormatTime(std::string_view format, absl::Time time);

}  // namespace penstock::jinja
