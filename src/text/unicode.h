// What the tokenizer formats ask of Unicode: character classes, case, normal forms, by ICU. Classes
// that are "as of" a version are frozen there in the tokenizers that vocabularies were made with.
// Owns nothing. Must not know tokens.
// Threads: n/a; pure functions.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace penstock::unicode {

bool IsWhitespace(char32_t c);      // property White_Space
bool IsNumeric(char32_t c);         // Nd, Nl, No
bool IsPunctuation(char32_t c);     // ASCII punctuation (with its symbols) or P, as of Unicode 8
bool IsWord(char32_t c);            // Alphabetic, M, Nd, Pc, Join_Control
bool IsMark(char32_t c);            // M, as of Unicode 9
bool IsNonspacingMark(char32_t c);  // Mn, as of Unicode 8
bool IsControl(char32_t c);         // Cc, Cf, Co, without tab, LF, CR, as of Unicode 8
bool IsCjkIdeograph(char32_t c);

/// Lower case of each code point by itself, without regard to its neighbours.
std::string ToLower(std::string_view text);

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
/// `text` must be valid UTF-8.
std::string Normalize(NormalForm form, std::string_view text);

/// Calls `fn` with each extended grapheme cluster (UAX 29) of `text`, which must be valid UTF-8.
void ForEachGrapheme(std::string_view text, const std::function<void(std::string_view)>& fn);

}  // namespace penstock::unicode
