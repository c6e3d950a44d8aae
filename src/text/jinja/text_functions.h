// Python's text operations that methods and filters share.
// Owns nothing. Must not know values.
// Threads: n/a; pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::jinja {

/// Takes characters off the ends: of `characters`, or white space where it is absent.
std::string_view Strip(std::string_view text, std::optional<std::string_view> characters, bool left,
                       bool right);

/// Upper and lower case of whole texts, as Python's str.
std::string ToUpper(std::string_view text);
std::string ToLower(std::string_view text);
/// str.casefold(): "ss" of a sharp s.
std::string FoldCase(std::string_view text);
/// The first character in title case, the others in lower case.
std::string Capitalize(std::string_view text);
/// str.title(): every run of letters capitalized.
std::string TitleWords(std::string_view text);
std::string SwapCase(std::string_view text);

/// Letters, numbers and _: the \w of Python's patterns.
bool IsWordCharacter(char32_t c);

/// Words between runs of white space; at most `max` splits, the rest unsplit (negative: no bound).
std::vector<std::string> SplitWords(std::string_view text, int64_t max, bool from_right);
/// Parts between `separator`, which must not be empty.
std::vector<std::string> SplitAt(std::string_view text, std::string_view separator, int64_t max,
                                 bool from_right);
std::vector<std::string> SplitLines(std::string_view text, bool keep_ends);

/// How often `from` stands in `text`, without overlap; an empty one stands between all characters.
size_t CountOccurrences(std::string_view text, std::string_view from);
/// At most `max` replacements (negative: no bound).
std::string ReplaceText(std::string_view text, std::string_view from, std::string_view to,
                        int64_t max);

/// & < > " ' as HTML entities.
std::string EscapeHtml(std::string_view text);

}  // namespace penstock::jinja
