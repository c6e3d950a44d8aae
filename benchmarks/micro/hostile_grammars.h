// Grammars that are ambiguous or deep on purpose, and what their masks cost.
// Owns nothing. Must not know engines.
// Threads: all on the caller's.
#pragma once

#include <cstdio>

#include "absl/status/status.h"
#include "text/grammar/grammar_compiler.h"

namespace penstock {

/// A JSON line each: milliseconds for the mask of each of 200 tokens of a text, and how that ended.
absl::Status MeasureHostileGrammars(const Tokenizer& tokenizer, std::FILE* out);

}  // namespace penstock
