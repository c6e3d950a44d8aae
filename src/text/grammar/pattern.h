// Regular expressions in the syntax of ECMAScript (with flag u) as automata over code points.
// Owns nothing. Must not know JSON, UTF-8 or tokens.
// Threads: n/a; pure functions.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "text/grammar/char_automaton.h"
#include "text/grammar/pattern_syntax.h"

namespace penstock::grammar {

/// kSearch: texts that hold a match, as JSON Schema has it; kWhole: texts that are a match.
enum class PatternUse : uint8_t { kSearch, kWhole };

/// INVALID_ARGUMENT for what is no expression, UNIMPLEMENTED for what no automaton can do
/// (back references, look-around but for a negative one at the start, word borders),
/// RESOURCE_EXHAUSTED for one whose automaton would be too large.
absl::StatusOr<CharAutomaton> CompilePattern(std::string_view pattern, PatternUse use,
                                             PatternFlags flags = {});

}  // namespace penstock::grammar
