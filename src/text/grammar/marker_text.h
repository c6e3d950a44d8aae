// Automata of text in which markers are looked for: special tokens count as their text.
// Owns nothing. Must not know what markers mean.
// Threads: n/a; pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/grammar/byte_automaton.h"

namespace penstock::grammar {

/// `text`, any part of which may be a special token.
ByteAutomaton SpelledText(std::string_view text);

/// Any text up to the first of `markers`, none of which lies within another. It ends with the one
/// of index `which` and with no other; < 0: it never ends, and none of them may stand in it.
ByteAutomaton TextUntilMarker(const std::vector<std::string>& markers, int which);

/// Any text in which none of `markers` stands; it may be empty.
ByteAutomaton TextWithoutMarkers(const std::vector<std::string>& markers);

}  // namespace penstock::grammar
