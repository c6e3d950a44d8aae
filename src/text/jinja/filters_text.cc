// Filters that give text.
#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "text/jinja/filters.h"
#include "text/jinja/format.h"
#include "text/jinja/lexer_strings.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/text_functions.h"

namespace penstock::jinja {
namespace {

using Result = absl::StatusOr<Value>;
using Bound = std::vector<std::optional<Value>>;

template <std::string (*map)(std::string_view)>
Result Mapped(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("filter", {}, 0, arguments));
  const std::string text = ToText(value);
  RETURN_IF_ERROR(runtime.ChargeText(text.size()));
  return Value::String(map(text));
}

// Safe text stays safe.
template <std::string (*map)(std::string_view)>
Result MappedLike(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Value text, Mapped<map>(runtime, value, arguments));
  return Value::StringLike(value, text.string());
}

Result MarkSafe(Runtime&, const Value& value, const Arguments&) {
  return Value::Safe(ToText(value));
}

Result Escape(Runtime& runtime, const Value& value, const Arguments&) {
  if (value.is_safe()) return value;
  const std::string text = ToText(value);
  RETURN_IF_ERROR(runtime.ChargeText(text.size()));
  return Value::Safe(EscapeHtml(text));
}

Result ForceEscape(Runtime& runtime, const Value& value, const Arguments& arguments) {
  return Escape(runtime, Value::String(ToText(value)), arguments);
}

// key="value" for each entry that has a value; a key that would end the attribute is an error.
Result XmlAttributes(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("xmlattr", {"autospace"}, 0, arguments));
  if (!value.is_dict()) return TypeError("xmlattr expects a dict");
  std::string out;
  const std::string first_separator = TruthOr(bound[0], true) ? " " : "";
  for (const auto& [key, item] : value.dict().entries()) {
    if (item.is_none() || item.is_undefined()) continue;
    if (!key.is_string()) return TypeError("xmlattr expects names that are strings");
    const std::string& name = key.string();
    if (name.find_first_of(" \t\n\r\f\v/>=") != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("ValueError: Invalid character in attribute name: ", ToText(key)));
    }
    const std::string text = ToText(item);
    RETURN_IF_ERROR(runtime.ChargeText(name.size() + text.size()));
    absl::StrAppend(&out, out.empty() ? first_separator : " ",
                    key.is_safe() ? name : EscapeHtml(name), "=\"",
                    item.is_safe() ? text : EscapeHtml(text), "\"");
  }
  return Value::String(std::move(out));
}

std::string AsText(std::string_view text) { return std::string(text); }

// Words start at the text's beginning and behind blanks, hyphens and opening brackets.
std::string Title(std::string_view text) {
  std::string out;
  bool starts = true;
  for (size_t pos = 0; pos < text.size();) {
    const DecodedCodePoint c = DecodeUtf8(text, pos);
    const std::string_view bytes = text.substr(pos, c.length);
    pos += c.length;
    const bool separator =
        IsPythonSpace(c.value) ||
        (c.value < 0x80 &&
         std::string_view("-({[<").find(static_cast<char>(c.value)) != std::string_view::npos);
    out += separator ? std::string(bytes) : starts ? ToUpper(bytes) : ToLower(bytes);
    starts = separator;
  }
  return out;
}

Result Trim(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("trim", {"chars"}, 0, arguments));
  const std::string text = ToText(value);
  RETURN_IF_ERROR(runtime.ChargeText(text.size()));
  if (!bound[0] || bound[0]->is_none())
    return Value::StringLike(value, std::string(Strip(text, std::nullopt, true, true)));
  ASSIGN_OR_RETURN(const std::string characters, TextOr(bound[0], ""));
  return Value::StringLike(value, std::string(Strip(text, characters, true, true)));
}

Result Replace(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("replace", {"old", "new", "count"}, 2, arguments));
  const std::string text = ToText(value);
  const std::string from = ToText(*bound[0]);
  const std::string to = ToText(*bound[1]);
  const bool all = !bound[2] || bound[2]->is_none();
  ASSIGN_OR_RETURN(const int64_t max, all ? absl::StatusOr<int64_t>(-1) : IntegerOr(bound[2], -1));
  RETURN_IF_ERROR(runtime.ChargeText(text.size() + CountOccurrences(text, from) * to.size()));
  return Value::String(ReplaceText(text, from, to, max));
}

Result Format(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    return absl::InvalidArgumentError(
        "can't handle positional and keyword arguments at the same time");
  }
  Value operand = Value::MakeTuple(arguments.positional);
  if (!arguments.named.empty()) {
    Dict named;
    for (const auto& [key, member] : arguments.named) named.Set(Value::String(key), member);
    operand = Value::MakeDict(std::move(named));
  }
  return ApplyBinary(runtime, "%", Value::StringLike(value, ToText(value)), operand);
}

Result Indent(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("indent", {"width", "first", "blank"}, 0, arguments));
  if (value.is_undefined()) return UndefinedError(value);
  if (!value.is_string()) {
    return TypeError(absl::StrCat("unsupported operand type(s) for +=: '",
                                  ToAbsl(value.type_name()), "' and 'str'"));
  }
  std::string indention;
  if (bound[0] && bound[0]->is_string()) {
    indention = bound[0]->string();
  } else {
    ASSIGN_OR_RETURN(const int64_t width, IntegerOr(bound[0], 4));
    RETURN_IF_ERROR(runtime.ChargeText(static_cast<uint64_t>(std::max<int64_t>(width, 0))));
    indention.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  const bool first = TruthOr(bound[1], false);
  const bool blank = TruthOr(bound[2], false);
  const std::vector<std::string> lines = SplitLines(value.string() + "\n", false);
  RETURN_IF_ERROR(
      runtime.ChargeText(value.string().size() + lines.size() * (indention.size() + 1)));
  std::string out = first ? indention : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) {
      out += '\n';
      if (blank || !lines[i].empty()) out += indention;
    }
    out += lines[i];
  }
  return Value::StringLike(value, std::move(out));
}

Result Center(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("center", {"width"}, 0, arguments));
  ASSIGN_OR_RETURN(const int64_t width, IntegerOr(bound[0], 80));
  Arguments inner;
  inner.positional.push_back(Value::Int(width));
  ASSIGN_OR_RETURN(const Value centered,
                   FindStringMethod("center")(runtime, Value::String(ToText(value)), inner));
  return Value::StringLike(value, centered.string());
}

Result Truncate(Runtime&, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(
      const Bound bound,
      BindArguments("truncate", {"length", "killwords", "end", "leeway"}, 0, arguments));
  ASSIGN_OR_RETURN(const int64_t length, IntegerOr(bound[0], 255));
  ASSIGN_OR_RETURN(const std::string end, TextOr(bound[2], "..."));
  const bool has_leeway = bound[3] && !bound[3]->is_none();
  ASSIGN_OR_RETURN(const int64_t leeway,
                   has_leeway ? IntegerOr(bound[3], 5) : absl::StatusOr<int64_t>(5));
  const auto end_length = static_cast<int64_t>(CountCodePoints(end));
  if (length < end_length)
    return absl::InvalidArgumentError(
        absl::StrCat("expected length >= ", end_length, ", got ", length));
  if (leeway < 0)
    return absl::InvalidArgumentError(absl::StrCat("expected leeway >= 0, got ", leeway));
  ASSIGN_OR_RETURN(const int64_t size, Length(value));
  const std::u32string points = ToCodePoints(ToText(value));
  if (size <= length || size - length <= leeway) return value;
  std::u32string head = points.substr(0, static_cast<size_t>(length - end_length));
  if (!TruthOr(bound[1], false)) {
    const size_t blank = head.rfind(U' ');
    if (blank != std::u32string::npos) head.resize(blank);
  }
  return Value::String(FromCodePoints(head) + end);
}

Result WordCount(Runtime&, const Value& value, const Arguments&) {
  int64_t count = 0;
  bool in_word = false;
  for (const char32_t c : ToCodePoints(ToText(value))) {
    const bool word = IsWordCharacter(c);
    if (word && !in_word) ++count;
    in_word = word;
  }
  return Value::Int(count);
}

std::string QuoteForUrl(std::string_view text, std::string_view safe) {
  std::string out;
  for (const char c : text) {
    const bool kept = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                      std::string_view("_.-~").find(c) != std::string_view::npos ||
                      safe.find(c) != std::string_view::npos;
    if (kept) {
      out += c;
    } else {
      out += absl::StrFormat("%%%02X", static_cast<uint8_t>(c));
    }
  }
  return out;
}

// A text's bytes; of a dict or pairs a query: a=b&c=d, blanks as +.
Result UrlEncode(Runtime& runtime, const Value& value, const Arguments& arguments) {
  RETURN_IF_ERROR(BindArguments("urlencode", {}, 0, arguments).status());
  if (value.is_string() || !IsIterable(value)) {
    const std::string text = ToText(value);
    RETURN_IF_ERROR(runtime.ChargeText(text.size()));
    return Value::String(QuoteForUrl(text, "/"));
  }
  std::vector<Value> pairs;
  if (value.is_dict()) {
    for (const auto& [key, member] : value.dict().entries())
      pairs.push_back(Value::MakeTuple({key, member}));
  } else {
    ASSIGN_OR_RETURN(pairs, CollectItems(runtime, value));
  }
  std::string out;
  for (const Value& pair : pairs) {
    ASSIGN_OR_RETURN(const std::vector<Value> parts, CollectItems(runtime, pair));
    if (parts.size() != 2) return ValueError("urlencode takes pairs of a key and a value");
    for (size_t i = 0; i < 2; ++i) {
      const std::string part = ReplaceText(QuoteForUrl(ToText(parts[i]), ""), "%20", "+", -1);
      RETURN_IF_ERROR(runtime.ChargeText(out.size() + part.size()));
      absl::StrAppend(&out, i == 1 ? "=" : out.empty() ? "" : "&", part);
    }
  }
  return Value::String(std::move(out));
}

// Tags and comments go; runs of white space become one blank.
std::string StripTags(std::string_view text) {
  std::string plain;
  for (size_t pos = 0; pos < text.size();) {
    const bool comment = text.substr(pos, 4) == "<!--";
    const size_t close = text[pos] != '<' ? std::string_view::npos
                         : comment        ? text.find("-->", pos)
                                          : text.find('>', pos);
    if (close == std::string_view::npos) {
      plain += text[pos++];
    } else {
      pos = close + (comment ? 3 : 1);
    }
  }
  std::string out;
  for (const std::string& word : SplitWords(plain, -1, false))
    out += (out.empty() ? "" : " ") + word;
  for (const auto& [entity, character] : {std::pair<const char*, const char*>{"&lt;", "<"},
                                          {"&gt;", ">"},
                                          {"&#34;", "\""},
                                          {"&quot;", "\""},
                                          {"&#39;", "'"},
                                          {"&amp;", "&"}}) {
    out = ReplaceText(out, entity, character, -1);
  }
  return out;
}

Result Json(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(
      const Bound bound,
      BindArguments("tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}, 0, arguments));
  JsonFormat format;
  format.ensure_ascii = TruthOr(bound[0], false);
  format.sort_keys = TruthOr(bound[3], false);
  if (bound[1] && !bound[1]->is_none()) {
    format.pretty = true;
    format.item_separator = ",";
    if (bound[1]->is_string()) {
      format.indent = bound[1]->string();
    } else {
      ASSIGN_OR_RETURN(const int64_t width, IntegerOr(bound[1], 0));
      RETURN_IF_ERROR(runtime.ChargeText(static_cast<uint64_t>(std::max<int64_t>(width, 0))));
      format.indent.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
    }
  }
  if (bound[2] && !bound[2]->is_none()) {
    const Value& pair = *bound[2];
    if (!pair.is_sequence() || pair.items().size() != 2 || !pair.items()[0].is_string() ||
        !pair.items()[1].is_string()) {
      return TypeError("separators must be two strings");
    }
    format.item_separator = pair.items()[0].string();
    format.key_separator = pair.items()[1].string();
  }
  ASSIGN_OR_RETURN(std::string text, ToJson(runtime, value, format));
  return Value::String(std::move(text));
}

}  // namespace

const FilterTable& TextFilters() {
  static const auto& table = *new FilterTable{
      {"upper", MappedLike<ToUpper>},
      {"lower", MappedLike<ToLower>},
      {"capitalize", MappedLike<Capitalize>},
      {"title", Mapped<Title>},
      {"string", MappedLike<AsText>},
      {"safe", MarkSafe},
      {"escape", Escape},
      {"e", Escape},
      {"forceescape", ForceEscape},
      {"xmlattr", XmlAttributes},
      {"urlencode", UrlEncode},
      {"striptags", Mapped<StripTags>},
      {"trim", Trim},
      {"replace", Replace},
      {"format", Format},
      {"indent", Indent},
      {"center", Center},
      {"truncate", Truncate},
      {"wordwrap", WordWrap},
      {"wordcount", WordCount},
      {"tojson", Json},
      {"pprint", PrettyPrint},
      {"urlize", Urlize},
  };
  return table;
}

}  // namespace penstock::jinja
