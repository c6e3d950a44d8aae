// The grammar of a chat's whole reply: reasoning, then calls of functions in the model's own format,
// or content of a given form.
// Owns nothing. Must not know tokens or requests.
// Threads: n/a; pure functions, which take as long as their schemas.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "text/grammar/byte_automaton.h"
#include "text/grammar/grammar.h"
#include "text/reply/reply_format.h"

namespace penstock {

/// A function that may be called.
struct FunctionSpec {
  std::string name;
  std::string schema;   // of its arguments, JSON
  std::string at;       // where that came from, for messages
  bool strict = false;  // refuse what cannot be kept, else leave it out
};

namespace grammar {

/// Goes before what stands for a special token in a grammar: no text has this byte.
inline constexpr char kSpecialMark = '\xFF';

/// Whether the tokenizer writes such a text as one token that is no text.
using IsSpecial = absl::FunctionRef<bool(std::string_view)>;

/// Whether calls begin as nothing of a form of its own does.
bool BeginsCalls(const CallFormat& format);
/// Or as nothing does that `schema`, JSON Schema, allows.
bool BeginsCallsBeside(const CallFormat& format, std::string_view schema);

/// Text before calls, in which their marks do not stand, nor do these.
struct TextBefore {
  std::vector<std::string> without;
  bool behind_reasoning = false;  // white space may go before what begins as the reply does
};

/// Calls in the order in which they are written: one, or with `several` one or more. With `before`
/// (null: none) text goes before them, or takes their place.
/// INVALID_ARGUMENT says which function's schema cannot be kept, and why.
absl::StatusOr<Grammar> CompileCalls(const CallFormat& format,
                                     const std::vector<FunctionSpec>& functions, bool several,
                                     const TextBefore* before, IsSpecial is_special,
                                     std::vector<std::string>* loosened);

/// Arguments of a function one by one, as Qwen3-Coder writes them, in a structural tag: line ends
/// around them may be left out, special tokens are text. `schema` is kept exactly or refused with the
/// path, but for remarks, which `loosened` takes behind `at`.
absl::StatusOr<Grammar> CompileTaggedArguments(std::string schema, const std::string& at,
                                               std::vector<std::string>* loosened);
/// The texts that they are written with.
std::vector<std::string> WritingsOfTaggedArguments();

/// Up to four bytes of white space, as parsers of replies skip it.
ByteAutomaton SomeSpace();

/// Whether every text may follow, special tokens included.
Grammar AnyReply();

/// What one of the two matches.
Grammar Either(const Grammar& one, const Grammar& other);

/// What follows reasoning.
enum class AfterReasoning : uint8_t {
  kForm,     // content or calls
  kText,     // text and perhaps calls; in neither case the reasoning has special tokens
  kAnything  // and reasoning need not end
};

/// `after` behind reasoning, which has begun already, or may begin.
Grammar BehindReasoning(const Grammar& after, const ReasoningFormat& format, bool has_begun,
                        AfterReasoning what, IsSpecial is_special);

/// `content`, perhaps behind the line that says that it is no call.
Grammar BehindRecipient(const Grammar& content, const CallFormat& format);

/// `content` behind what the family writes before it.
Grammar BehindMarkers(const Grammar& content, const ReasoningFormat& format, IsSpecial is_special);

/// Any bytes up to the first `end`, which closes it. `special`: so does that token. `other_specials`:
/// they are text. `closing`: the same states, but nothing may follow that is no part of `end`.
ByteAutomaton TextUntil(std::string_view end, bool special, bool other_specials, bool closing);

/// `text` with a mark before each of `markers` that is a special token.
std::string MarkSpecials(std::string_view text, const std::vector<std::string_view>& markers,
                         IsSpecial is_special);

}  // namespace grammar
}  // namespace penstock
