// wordwrap: lines of at most a width, as Python's textwrap breaks them.
#include <unicode/uchar.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "text/jinja/filters.h"
#include "text/jinja/lexer_strings.h"
#include "text/jinja/text_functions.h"

namespace penstock::jinja {
namespace {

using Chunks = std::vector<std::u32string_view>;

struct WrapStyle {
  size_t width;
  bool cut_words;  // those longer than a line
  bool at_hyphens;
};

/// Lines break at these alone; other white space of Unicode stands within words.
bool IsWrapSpace(char32_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool IsWordLetter(char32_t c) {
  return IsWordCharacter(c) && u_charType(static_cast<UChar32>(c)) != U_DECIMAL_DIGIT_NUMBER;
}
bool IsWordOrMark(char32_t c) {
  return IsWordCharacter(c) ||
         std::u32string_view(U"!\"'&.,?").find(c) != std::u32string_view::npos;
}

bool IsBlank(std::u32string_view chunk) {
  return std::all_of(chunk.begin(), chunk.end(), [](char32_t c) { return IsPythonSpace(c); });
}

/// Where a dash of two or more hyphens between words ends that begins at `at`; `at` where none does.
size_t DashEnd(std::u32string_view text, size_t at) {
  if (at == 0 || !IsWordOrMark(text[at - 1])) return at;
  size_t end = at;
  while (end < text.size() && text[end] == '-') ++end;
  return end >= at + 2 && end < text.size() && IsWordCharacter(text[end]) ? end : at;
}

/// Whether a word may break behind its hyphen at `at`: two letters before it, or a letter, a hyphen
/// and a mark; two letters behind it, perhaps with a hyphen between.
bool BreaksBehindHyphen(std::u32string_view text, size_t at) {
  const auto letter = [&](size_t i) { return i < text.size() && IsWordLetter(text[i]); };
  const bool before =
      (at >= 2 && letter(at - 1) && letter(at - 2)) ||
      (at >= 3 && IsWordOrMark(text[at - 1]) && text[at - 2] == '-' && letter(at - 3));
  if (!before || !letter(at + 1)) return false;
  return letter(at + 2) || (at + 2 < text.size() && text[at + 2] == '-' && letter(at + 3));
}

size_t WordEnd(std::u32string_view text, size_t begin, bool at_hyphens) {
  for (size_t end = begin + 1;; ++end) {
    if (end >= text.size() || IsWrapSpace(text[end])) return end;
    if (!at_hyphens || text[end] != '-') continue;
    if (BreaksBehindHyphen(text, end)) return end + 1;
    if (DashEnd(text, end) != end) return end;
  }
}

/// White space, words, parts of words with hyphens, dashes.
Chunks SplitChunks(std::u32string_view text, bool at_hyphens) {
  Chunks chunks;
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
    if (IsWrapSpace(text[begin])) {
      while (end < text.size() && IsWrapSpace(text[end])) ++end;
    } else {
      if (at_hyphens) end = DashEnd(text, begin);
      if (end == begin) end = WordEnd(text, begin, at_hyphens);
    }
    chunks.push_back(text.substr(begin, end - begin));
  }
  return chunks;
}

/// What of a word that is longer than a line goes on the line, of which `room` is left.
size_t CutOf(std::u32string_view word, size_t room, bool at_hyphens) {
  if (!at_hyphens || room == 0 || word.size() <= room) return room;
  const size_t hyphen = word.rfind(U'-', room - 1);
  if (hyphen == std::u32string_view::npos || word.find_first_not_of(U'-') >= hyphen) return room;
  return hyphen + 1;
}

std::vector<std::string> WrapParagraph(std::string_view paragraph, const WrapStyle& style) {
  const std::u32string points = ToCodePoints(paragraph);
  Chunks chunks = SplitChunks(points, style.at_hyphens);
  std::vector<std::string> lines;
  for (size_t next = 0; next < chunks.size();) {
    if (!lines.empty() && IsBlank(chunks[next])) ++next;
    Chunks line;
    size_t size = 0;
    for (; next < chunks.size() && size + chunks[next].size() <= style.width; ++next) {
      size += chunks[next].size();
      line.push_back(chunks[next]);
    }
    if (next < chunks.size() && chunks[next].size() > style.width) {
      if (style.cut_words) {
        const size_t cut = CutOf(chunks[next], style.width - size, style.at_hyphens);
        line.push_back(chunks[next].substr(0, cut));
        chunks[next].remove_prefix(cut);
      } else if (line.empty()) {
        line.push_back(chunks[next++]);
      }
    }
    if (!line.empty() && IsBlank(line.back())) line.pop_back();
    if (line.empty()) continue;
    std::string text;
    for (const std::u32string_view chunk : line) text += FromCodePoints(chunk);
    lines.push_back(std::move(text));
  }
  return lines;
}

}  // namespace

absl::StatusOr<Value> WordWrap(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(
      const auto bound,
      BindArguments("wordwrap", {"width", "break_long_words", "wrapstring", "break_on_hyphens"}, 0,
                    arguments));
  ASSIGN_OR_RETURN(const int64_t width, IntegerOr(bound[0], 79));
  if (width <= 0) return ValueError(absl::StrCat("invalid width ", width, " (must be > 0)"));
  const bool own_break = bound[2] && !bound[2]->is_none();
  ASSIGN_OR_RETURN(const std::string line_break,
                   own_break ? TextOr(bound[2], "\n") : absl::StatusOr<std::string>("\n"));
  ASSIGN_OR_RETURN(const std::string text, TextOr(value, ""));
  const WrapStyle style = {static_cast<size_t>(width), TruthOr(bound[1], true),
                           TruthOr(bound[3], true)};
  std::string out;
  const std::vector<std::string> paragraphs = SplitLines(text, false);
  for (size_t i = 0; i < paragraphs.size(); ++i) {
    RETURN_IF_ERROR(runtime.ChargeItems(paragraphs[i].size()));
    const std::vector<std::string> lines = WrapParagraph(paragraphs[i], style);
    if (i > 0) out += line_break;
    for (size_t j = 0; j < lines.size(); ++j) out += (j > 0 ? line_break : "") + lines[j];
    RETURN_IF_ERROR(runtime.ChargeText(out.size()));
  }
  return Value::String(std::move(out));
}

}  // namespace penstock::jinja
