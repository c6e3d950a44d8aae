// Names of hosts, whose labels a pattern keeps but not the sum of their lengths.
// Owns nothing. Must not know schemas.
// Threads: n/a; pure functions.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "text/grammar/byte_automaton.h"
#include "text/grammar/char_automaton.h"

namespace penstock::grammar {

inline constexpr int64_t kMostHostName = 253;  // characters (RFC 1123, section 2.1)

/// Those of `texts`, all of ASCII, that have at most `max` characters, as JSON strings. Takes about the states of
/// `texts` times `max`: RESOURCE_EXHAUSTED beyond ByteAutomaton::kMaxStates.
absl::StatusOr<ByteAutomaton> ShortTexts(const CharAutomaton& texts, int64_t max);

}  // namespace penstock::grammar
