// JSON written straight into a string: for answers that leave thousands of times a second.
// Owns nothing. Must not know what is written.
// Threads: thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace penstock {

/// `text` quoted and escaped; bytes that are no UTF-8 become U+FFFD.
void AppendJsonString(std::string& out, std::string_view text);
/// The same, or null where it is empty.
void AppendJsonStringOrNull(std::string& out, std::string_view text);
void AppendJsonInt(std::string& out, int64_t value);
/// The shortest digits that read back as the same number; NaN and infinities become null.
void AppendJsonNumber(std::string& out, float value);

/// ,"warnings":["...", ...]; nothing where there are none.
void AppendWarnings(std::string& out, const std::vector<std::string>& warnings);

/// The API's error: {"error":{"message","type","param","code"}}. `param` empty: null.
std::string ErrorBody(int status, std::string_view message, std::string_view param);

}  // namespace penstock
