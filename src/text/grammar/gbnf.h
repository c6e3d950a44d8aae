// Grammars in the notation of llama.cpp (GBNF).
// Owns nothing. Must not know tokens.
// Threads: n/a; a pure function.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "text/grammar/grammar.h"

namespace penstock::grammar {

/// Rules `name ::= ...`, one of which must be called root, of literals in quotes, classes in
/// brackets, `.` (any character), groups, alternatives and the quantifiers * + ? {n} {n,} {n,m},
/// with blanks around and within them; comments from # on. Within a group lines end anywhere.
/// INVALID_ARGUMENT names line and column.
absl::StatusOr<Grammar> CompileGbnf(std::string_view text);

}  // namespace penstock::grammar
