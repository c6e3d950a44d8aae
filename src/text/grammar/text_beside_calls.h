// What a model may write beside its calls of functions: text that the reader of its format takes for none of them.
// Owns nothing. Must not know functions or their schemas.
// Threads: n/a; pure functions.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "text/grammar/grammar.h"
#include "text/reply/reply_format.h"

namespace penstock::grammar {

/// Any text, from the reply's begin on, in which nothing begins that CallReader and ReplyParser could take for a call
/// in `format`, nor any of `without` stands; it may be empty. Special tokens count as their text. Not for harmony,
/// whose messages say where they go.
absl::StatusOr<GrammarBuilder::Expr> TextBesideCalls(const CallFormat& format,
                                                     std::vector<std::string> without,
                                                     GrammarBuilder& builder);

}  // namespace penstock::grammar
