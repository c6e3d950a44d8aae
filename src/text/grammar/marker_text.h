// Automata of text in which markers are looked for.
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

/// Any text up to the first of `markers`, none of which lies within another; special tokens count
/// as their text. It ends with the one of index `which` and with no other; < 0: it never ends, and
/// none of them may stand in it.
ByteAutomaton TextUntilMarker(const std::vector<std::string>& markers, int which);

/// Any text in which none of `markers` stands, nor a special token; it may be empty.
ByteAutomaton TextWithoutMarkers(const std::vector<std::string>& markers);

/// `text`, and within it `specials`, special tokens that count as their text: everywhere, or in a
/// large one where no other marker is half written.
ByteAutomaton WithSpecials(const ByteAutomaton& text, const std::vector<std::string>& specials);

}  // namespace penstock::grammar
