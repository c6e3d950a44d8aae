// Grammars in the notation of the Python package Lark.
// Owns nothing. Must not know tokens.
// Threads: n/a; a pure function.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "text/grammar/grammar.h"

namespace penstock::grammar {

/// Rules `name: ...` and terminals `NAME: ...` of literals and regular expressions (with flag i:
/// ASCII letters of either case; of expressions s too: dots match ends of lines), ranges, groups,
/// [options], alternatives and ? * + ~n ~n..m; aliases and priorities have no meaning here;
/// %ignore, and %import of the library `common`. What the rule `start` matches is matched character
/// by character: there is no lexer that would tell a keyword from a name, so that "ifx" is
/// `"if" NAME` too. Templates, other flags and other directives are UNIMPLEMENTED; errors name line
/// and column.
absl::StatusOr<Grammar> CompileLark(std::string_view text);

}  // namespace penstock::grammar
