// The formats of JSON Schema that are kept, as automata.
// Owns those that were asked for, once per process. Must not know schemas.
// Threads: thread-safe.
#pragma once

#include <string>
#include <string_view>

#include "text/grammar/char_automaton.h"

namespace penstock::grammar {

/// Null where the format is none of those that are kept.
const CharAutomaton* FindFormat(std::string_view name);

/// Formats of the standard that are not kept.
bool IsOtherFormat(std::string_view name);

/// What to say of a name that is neither, which by the standard is a remark; empty for the others.
std::string RemarkOnFormat(std::string_view name);

}  // namespace penstock::grammar
