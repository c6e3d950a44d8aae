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

constexpr std::string_view kBlanks = "[ \\t\\n\\v\\f\\r]*", kBlanksOfLine = "[ \\t\\v\\f\\r]*";

/// A line that is a function's name: any but `all`, behind which text comes.
std::string NameLine() {
  constexpr std::string_view kAny = "[A-Za-z0-9_.:/-]", kNotA = "[A-Zb-z0-9_.:/-]",
                             kNotL = "[A-Za-km-z0-9_.:/-]";
  return absl::StrCat(ToAbsl(kBlanksOfLine), "(?:", ToAbsl(kAny), "{1,2}|", ToAbsl(kAny), "{4,}|",
                      ToAbsl(kNotA), ToAbsl(kAny), "{2}|a", ToAbsl(kNotL), ToAbsl(kAny), "|al",
                      ToAbsl(kNotL), ")", ToAbsl(kBlanksOfLine), "\\n");
}

bool IsWord(std::string_view mark) {
  return !mark.empty() && absl::ascii_isalpha(static_cast<unsigned char>(mark[0]));
}

/// What a call begins with, where more than a mark does, as patterns.
std::vector<std::string> CallBegins(const CallFormat& format) {
  constexpr std::string_view kHead = "^[ \\t\\r\\n]*";  // that the parser skips
  const absl::string_view blanks = ToAbsl(kBlanks);
  if (format.body == CallBody::kNameLine) {
    const std::string call = absl::StrCat(NameLine(), blanks, "\\{");
    return {absl::StrCat("^", blanks, call), absl::StrCat(ToAbsl(format.begin), call)};
  }
  if (format.body == CallBody::kPython)
    return {absl::StrCat(ToAbsl(kHead), "\\[", blanks, "[A-Za-z0-9_.:/-]+\\(")};
  if (format.bare) return {absl::StrCat(ToAbsl(kHead), "\\{[ \\t\\r\\n]*\"")};
  if (!IsWord(format.begin)) return {};
  const absl::string_view fence = format.body == CallBody::kFenced ? "```json" : "";
  return {absl::StrCat(ToAbsl(format.begin), blanks, fence, blanks, "\\[", blanks, "\\{")};
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

/// A reply that is an object which names no function, and text behind it: the reader gives up where the object ends.
absl::StatusOr<Expr> NamelessObject(const ByteAutomaton& rest, GrammarBuilder& builder) {
  constexpr const char* kSchema =
      R"({"type":"object","patternProperties":{"^(tool_)?name$":)"
      R"({"not":{"type":"string","pattern":"^[A-Za-z0-9_.:/-]{1,128}$"}}}})";
  const auto schema = nlohmann::ordered_json::parse(kSchema);
  ASSIGN_OR_RETURN(Grammar object, CompileJsonSchema(schema, {true, nullptr}));
  return builder.Sequence({builder.Terminal(SomeSpace()),
                           builder.Embed(std::make_shared<const Grammar>(std::move(object))),
                           builder.Terminal(rest)});
}

}  // namespace

absl::StatusOr<Expr> TextBesideCalls(const CallFormat& format, std::vector<std::string> without,
                                     IsSpecial is_special, GrammarBuilder& builder) {
  const std::vector<std::string> begins = CallBegins(format);
  if (format.body != CallBody::kNameLine && !IsWord(format.begin))
    without.emplace_back(format.begin);
  std::erase(without, "");
  std::vector<std::string> specials;
  for (const std::string_view marker : MarkersOf({&format, nullptr})) {
    if (is_special(marker)) specials.emplace_back(marker);
  }
  if (begins.empty()) return builder.Terminal(WithSpecials(TextWithoutMarkers(without), specials));
  for (std::string& marker : without) marker = Quoted(marker);
  ASSIGN_OR_RETURN(const CharAutomaton unmarked, WithoutPatterns(without));
  ASSIGN_OR_RETURN(const CharAutomaton others, WithoutPatterns(begins));
  ASSIGN_OR_RETURN(const CharAutomaton text, CharAutomaton::And(unmarked, others));
  const auto spelled = [&specials](const CharAutomaton& chars) {
    return WithSpecials(ByteAutomaton::Of(chars, TextEncoding::kUtf8), specials);
  };
  const Expr plain = builder.Terminal(spelled(text));
  if (!format.bare || format.body != CallBody::kObject) return plain;
  ASSIGN_OR_RETURN(const Expr object, NamelessObject(spelled(unmarked), builder));
  return builder.Choice({plain, object});
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
