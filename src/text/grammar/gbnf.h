// Grammars in the notation of llama.cpp (GBNF).
// Owns nothing. Must not know tokens.
// Threads: n/a; a pure function.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "text/grammar/grammar.h"

namespace penstock::grammar {

/// Rules `name ::= ...`, the first of which must be called root, of literals in quotes, classes in
/// brackets, `.`, groups, alternatives and the quantifiers * + ? {n} {n,} {n,m}; comments from # on.
/// INVALID_ARGUMENT names line and column.
absl::StatusOr<Grammar> CompileGbnf(std::string_view text);

}  // namespace penstock::grammar
