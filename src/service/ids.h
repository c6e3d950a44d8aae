// Random ids for requests and seeds.
// Owns nothing. Must not know what they name.
// Threads: thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace penstock {

uint64_t RandomBits();
/// 32 hexadecimal digits.
std::string MakeRequestId();
/// "call_" and 24 hexadecimal digits.
std::string MakeCallId();
/// A client's own id, cut to 128 characters of [A-Za-z0-9._:-]; "" where nothing is left.
std::string CleanRequestId(std::string_view id);

}  // namespace penstock
