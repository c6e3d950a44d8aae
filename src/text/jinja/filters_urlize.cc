// urlize: web and mail addresses in a text become links.
#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/regex.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "text/jinja/filters.h"
#include "text/jinja/format.h"
#include "text/jinja/lexer_strings.h"
#include "text/jinja/text_functions.h"

namespace penstock::jinja {
namespace {

/// What the links of one call have in common.
struct LinkStyle {
  std::string attributes;  // " rel=...", " target=..."
  std::optional<int64_t> limit;
  std::vector<std::string> schemes;
};

const Regex& CompiledOnce(std::string_view pattern) {
  absl::StatusOr<Regex> regex = Regex::Compile(pattern);
  return *new Regex(*std::move(regex));  // the patterns below compile
}

bool Matches(const Regex& regex, std::string_view text) {
  Regex::Match match;
  return regex.Find(text, 0, &match) && match.begin == 0;
}

/// A host with a scheme or www., one of the oldest top-level domains without, or a number with a
/// scheme; then a port and a path.
bool IsWebAddress(std::string_view text) {
  static const Regex& regex = CompiledOnce(
      R"(\A(?i:(?:https?://|www\.)(?:(?:[\w%-]+\.)+)?(?:[a-z]{2,63}|xn--[\w%]{2,59}))"
      R"(|(?:[\w%-]{2,63}\.)+(?:com|net|int|edu|gov|org|info|mil))"
      R"(|https?://(?:\d{1,3}(?:\.\d{1,3}){3}|\[(?:[\da-f]{0,4}:){2}(?:[\da-f]{0,4}:?){1,6}\])))"
      R"((?::\d{1,5})?(?:[/?#]\S*)?\z)");
  return Matches(regex, text);
}

bool IsMailAddress(std::string_view text) {
  static const Regex& regex = CompiledOnce(R"(\A\S+@\w[\w.-]*\.\w+\z)");
  return Matches(regex, text);
}

bool IsScheme(std::string_view text) {
  static const Regex& regex = CompiledOnce(R"(\A[\w.+-]{2,}:/{0,2}\z)");
  return Matches(regex, text);
}

/// A word in three: opening brackets, what may be an address, closing marks.
struct Word {
  std::string head, middle, tail;
};

Word TakeApart(std::string_view text) {
  size_t begin = 0;
  while (begin < text.size()) {
    const std::string_view rest = text.substr(begin);
    if (rest[0] == '(' || rest[0] == '<') {
      ++begin;
    } else if (absl::StartsWith(ToAbsl(rest), "&lt;")) {
      begin += 4;
    } else {
      break;
    }
  }
  size_t end = text.size();
  while (end > begin) {
    const std::string_view rest = text.substr(begin, end - begin);
    if (std::string_view(")>.,\n").find(rest.back()) != std::string_view::npos) {
      --end;
    } else if (absl::EndsWith(ToAbsl(rest), "&gt;")) {
      end -= 4;
    } else {
      break;
    }
  }
  return {std::string(text.substr(0, begin)), std::string(text.substr(begin, end - begin)),
          std::string(text.substr(end))};
}

/// Brackets that open within the address close within it.
void Balance(std::string_view open, std::string_view close, Word& word) {
  const size_t opened = CountOccurrences(word.middle, open);
  if (opened <= CountOccurrences(word.middle, close)) return;
  const size_t moved = std::min(opened, CountOccurrences(word.tail, close));
  for (size_t i = 0; i < moved; ++i) {
    const size_t end = word.tail.find(close) + close.size();
    word.middle += word.tail.substr(0, end);
    word.tail.erase(0, end);
  }
}

std::string Shortened(const std::string& address, std::optional<int64_t> limit) {
  if (!limit || static_cast<int64_t>(CountCodePoints(address)) <= *limit) return address;
  std::u32string points = ToCodePoints(address);
  const int64_t kept = *limit < 0 ? static_cast<int64_t>(points.size()) + *limit : *limit;
  points.resize(static_cast<size_t>(std::max<int64_t>(kept, 0)));
  return FromCodePoints(points) + "...";
}

std::string Linked(const std::string& address, const LinkStyle& style) {
  const absl::string_view text = ToAbsl(address);
  if (IsWebAddress(address)) {
    const bool has_scheme = absl::StartsWith(text, "https://") || absl::StartsWith(text, "http://");
    return absl::StrCat("<a href=\"", has_scheme ? "" : "https://", address, "\"", style.attributes,
                        ">", Shortened(address, style.limit), "</a>");
  }
  if (absl::StartsWith(text, "mailto:") && IsMailAddress(address.substr(7)))
    return absl::StrCat("<a href=\"", address, "\">", address.substr(7), "</a>");
  if (absl::StrContains(text, "@") && !absl::StartsWith(text, "www.") &&
      !absl::StrContains(text, ":") && IsMailAddress(address)) {
    return absl::StrCat("<a href=\"mailto:", address, "\">", address, "</a>");
  }
  std::string out = address;
  for (const std::string& scheme : style.schemes) {
    if (out == scheme || !absl::StartsWith(out, scheme)) continue;
    out = absl::StrCat("<a href=\"", out, "\"", style.attributes, ">", out, "</a>");
  }
  return out;
}

absl::StatusOr<LinkStyle> ReadStyle(Runtime& runtime, const Arguments& arguments) {
  ASSIGN_OR_RETURN(
      const auto bound,
      BindArguments("urlize", {"trim_url_limit", "nofollow", "target", "rel", "extra_schemes"}, 0,
                    arguments));
  LinkStyle style;
  if (bound[0] && !bound[0]->is_none()) {
    ASSIGN_OR_RETURN(style.limit, IntegerOr(bound[0], 0));
  }
  std::set<std::string> relations = {"noopener"};
  if (TruthOr(bound[1], false)) relations.insert("nofollow");
  if (bound[3] && bound[3]->Truthy()) {
    ASSIGN_OR_RETURN(const std::string rel, TextOr(bound[3], ""));
    for (std::string& word : SplitWords(rel, -1, false)) relations.insert(std::move(word));
  }
  style.attributes = absl::StrCat(" rel=\"", EscapeHtml(absl::StrJoin(relations, " ")), "\"");
  if (bound[2] && bound[2]->Truthy()) {
    ASSIGN_OR_RETURN(const std::string target, TextOr(bound[2], ""));
    absl::StrAppend(&style.attributes, " target=\"", EscapeHtml(target), "\"");
  }
  if (bound[4] && bound[4]->Truthy()) {
    ASSIGN_OR_RETURN(const std::vector<Value> schemes, CollectItems(runtime, *bound[4]));
    for (const Value& scheme : schemes) {
      if (!scheme.is_string() || !IsScheme(scheme.string())) {
        return absl::InvalidArgumentError(
            absl::StrCat(Repr(scheme), " is not a valid URI scheme prefix."));
      }
      style.schemes.push_back(scheme.string());
    }
  }
  return style;
}

}  // namespace

absl::StatusOr<Value> Urlize(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const LinkStyle style, ReadStyle(runtime, arguments));
  const std::string text = value.is_safe() ? value.string() : EscapeHtml(ToText(value));
  RETURN_IF_ERROR(runtime.ChargeText(text.size()));
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    size_t end = pos;
    const bool space = IsPythonSpace(DecodeUtf8(text, pos).value);
    while (end < text.size()) {
      const DecodedCodePoint c = DecodeUtf8(text, end);
      if (IsPythonSpace(c.value) != space) break;
      end += c.length;
    }
    const std::string_view part(text.data() + pos, end - pos);
    pos = end;
    if (space) {
      out += part;
      continue;
    }
    Word word = TakeApart(part);
    Balance("(", ")", word);
    Balance("<", ">", word);
    Balance("&lt;", "&gt;", word);
    absl::StrAppend(&out, word.head, Linked(word.middle, style), word.tail);
    RETURN_IF_ERROR(runtime.ChargeText(out.size() > (1u << 20) ? out.size() : part.size()));
  }
  return Value::String(std::move(out));
}

}  // namespace penstock::jinja
