// Random ids for requests and seeds, and ids of calls of functions.
// Owns nothing. Must not know who keeps them.
// Threads: thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace penstock {

enum class CallIdForm : uint8_t;  // text/reply/reply_format.h

uint64_t RandomBits();
/// 32 hexadecimal digits.
std::string MakeRequestId();
/// Of a form that the model's chat template takes back; kAny: "call_" and 24 hexadecimal digits.
/// `number`: the calls that came before it in the chat.
std::string MakeCallId(CallIdForm form, std::string_view function, int64_t number);
/// A client's own id, cut to 128 characters of [A-Za-z0-9._:-]; "" where nothing is left.
std::string CleanRequestId(std::string_view id);

}  // namespace penstock
