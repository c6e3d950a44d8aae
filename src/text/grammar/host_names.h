// Names of hosts (RFC 1123): labels of at most 63 letters, digits and hyphens, 253 characters in all.
// Owns nothing. Must not know JSON or schemas.
// Threads: thread-safe.
#pragma once

#include "text/grammar/char_automaton.h"

namespace penstock::grammar {

/// Every name of up to four labels. Of those with more, all but some of over 190 characters: an
/// automaton that counts them exactly has 24,000 states, this one a fifth.
CharAutomaton HostNames();
/// Names of any length, for who bounds it by other means.
CharAutomaton HostLabels();
inline constexpr int32_t kMostHostName = 253;

}  // namespace penstock::grammar
