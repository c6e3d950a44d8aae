// What a model may write beside its calls of functions: text that the reader of its format takes for none of them.
// Owns nothing. Must not know functions or their schemas.
// Threads: n/a; pure functions.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "text/grammar/grammar.h"
#include "text/grammar/reply_grammar.h"
#include "text/reply/reply_format.h"

namespace penstock::grammar {

/// Any text, from the reply's begin on, in which nothing begins that CallReader and ReplyParser could take for a call
/// in `format`, nor any of `without` stands; it may be empty. Of special tokens only those of the format stand in it,
/// as their text: others are left out of what is read, so that a call could hide behind them. Of harmony: what is no
/// message to a function.
absl::StatusOr<GrammarBuilder::Expr> TextBesideCalls(const CallFormat& format,
                                                     std::vector<std::string> without,
                                                     IsSpecial is_special, GrammarBuilder& builder);

}  // namespace penstock::grammar
