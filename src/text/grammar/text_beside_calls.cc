#include "text/grammar/text_beside_calls.h"

#include <array>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/marker_text.h"
#include "text/grammar/pattern.h"
#include "text/grammar/reply_grammar.h"

namespace penstock::grammar {
namespace {

using Expr = GrammarBuilder::Expr;

constexpr std::string_view kAnyBlanks = "[ \\t\\n\\v\\f\\r]*";
constexpr std::string_view kNameBytes = "[A-Za-z0-9_.:/-]";

/// What stands behind a mark that is a word, where it begins a call.
std::string_view BehindWord(CallBody body) { return body == CallBody::kFenced ? "```json" : "\\["; }

/// Replies that begin with what may become a call, as a pattern; empty: none do.
std::string CallsAtTheBegin(const CallFormat& format) {
  constexpr std::string_view kHead = "^[ \\t\\r\\n]*";  // that the parser skips
  if (format.body == CallBody::kNameLine)
    return absl::StrCat("^", ToAbsl(kAnyBlanks), ToAbsl(kNameBytes), "+[ \\t\\v\\f\\r]*\\n");
  if (!format.bare) return "";
  if (format.body == CallBody::kPython)
    return absl::StrCat(ToAbsl(kHead), "\\[", ToAbsl(kAnyBlanks), "[A-Za-z0-9_.:/+-]*(?:\\(|$)");
  return absl::StrCat(ToAbsl(kHead), "\\{[ \\t\\r\\n]*(?:[\"}]|$)");
}

std::string Quoted(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (absl::ascii_ispunct(static_cast<unsigned char>(c)) &&
        std::string_view("^$\\.*+?()[]{}|/").find(c) != std::string_view::npos)
      out += '\\';
    out += c;
  }
  return out;
}

/// Texts without what the patterns find.
absl::StatusOr<CharAutomaton> WithoutPatterns(const std::vector<std::string>& patterns) {
  CharAutomaton all = CharAutomaton::All();
  for (const std::string& pattern : patterns) {
    ASSIGN_OR_RETURN(const CharAutomaton found, CompilePattern(pattern, PatternUse::kSearch));
    ASSIGN_OR_RETURN(all, CharAutomaton::And(all, found.Not()));
  }
  return all;
}

/// As UTF-8, in which special tokens count as their text.
ByteAutomaton SpelledAutomaton(const CharAutomaton& chars) {
  const ByteAutomaton bytes = ByteAutomaton::Of(chars, TextEncoding::kUtf8);
  std::vector<std::array<int32_t, 256>> rows(static_cast<size_t>(bytes.num_states()));
  std::vector<uint8_t> accepts(rows.size());
  for (int32_t s = 0; s < bytes.num_states(); ++s) {
    for (int b = 0; b < 256; ++b) rows[s][b] = bytes.Next(s, static_cast<uint8_t>(b));
    rows[s][static_cast<uint8_t>(kSpecialMark)] = s;
    accepts[s] = bytes.accepts(s) ? 1 : 0;
  }
  return {rows, std::move(accepts)};
}

/// A reply that is an object which names no function, and text behind it: the reader gives up where the object ends.
absl::StatusOr<Expr> NamelessObject(const std::vector<std::string>& without,
                                    GrammarBuilder& builder) {
  const nlohmann::ordered_json schema = {
      {"type", "object"}, {"propertyNames", {{"not", {{"enum", {"name", "tool_name"}}}}}}};
  ASSIGN_OR_RETURN(Grammar object, CompileJsonSchema(schema, {true, nullptr}));
  ASSIGN_OR_RETURN(const CharAutomaton blanks,
                   CompilePattern("[ \\t\\r\\n]{0,4}", PatternUse::kWhole));
  ASSIGN_OR_RETURN(const CharAutomaton rest, WithoutPatterns(without));
  return builder.Sequence({builder.Terminal(ByteAutomaton::Of(blanks, TextEncoding::kUtf8)),
                           builder.Embed(std::make_shared<const Grammar>(std::move(object))),
                           builder.Terminal(SpelledAutomaton(rest))});
}

}  // namespace

absl::StatusOr<Expr> TextBesideCalls(const CallFormat& format, std::vector<std::string> without,
                                     GrammarBuilder& builder) {
  const bool is_word =
      !format.begin.empty() && absl::ascii_isalpha(static_cast<unsigned char>(format.begin[0]));
  std::string at_begin = CallsAtTheBegin(format);
  if (!is_word) without.emplace_back(format.begin);
  std::erase(without, "");
  if (at_begin.empty() && !is_word) return builder.Terminal(TextWithoutMarkers(without));
  for (std::string& marker : without) marker = Quoted(marker);
  if (is_word)
    without.push_back(
        absl::StrCat(ToAbsl(format.begin), ToAbsl(kAnyBlanks), ToAbsl(BehindWord(format.body))));
  ASSIGN_OR_RETURN(CharAutomaton text, WithoutPatterns(without));
  std::vector<Expr> options;
  if (!at_begin.empty()) {
    ASSIGN_OR_RETURN(CharAutomaton others, WithoutPatterns({at_begin}));
    if (format.body == CallBody::kNameLine) {  // of which one says that text follows
      ASSIGN_OR_RETURN(const CharAutomaton all,
                       CompilePattern(absl::StrCat("^[ \\t\\v\\f\\r]*all[ \\t\\v\\f\\r]*\\n"),
                                      PatternUse::kSearch));
      ASSIGN_OR_RETURN(others, CharAutomaton::Or(others, all));
    } else if (format.body == CallBody::kObject) {
      ASSIGN_OR_RETURN(const Expr object, NamelessObject(without, builder));
      options.push_back(object);
    }
    ASSIGN_OR_RETURN(text, CharAutomaton::And(text, others));
  }
  options.push_back(builder.Terminal(SpelledAutomaton(text)));
  return builder.Choice(std::move(options));
}

bool BeginsCalls(const CallFormat& format) {
  return !format.bare && format.body != CallBody::kNameLine;
}

bool BeginsCallsBeside(const CallFormat& format, std::string_view schema) {
  if (!format.bare) return true;  // no line within an instance is a function's name alone
  const auto said = nlohmann::ordered_json::parse(schema, nullptr, false);
  if (!said.is_object() || said.value("type", nlohmann::ordered_json()) != "object") return false;
  if (format.body == CallBody::kPython) return true;
  const auto properties = said.find("properties");
  return said.value("additionalProperties", nlohmann::ordered_json()) == false &&
         !said.contains("patternProperties") && !said.contains("$ref") &&
         (properties == said.end() || (properties->is_object() && !properties->contains("name") &&
                                       !properties->contains("tool_name")));
}

}  // namespace penstock::grammar
