// Methods of str.
#include <unicode/uchar.h>

#include <algorithm>
#include <functional>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "text/jinja/format.h"
#include "text/jinja/lexer_strings.h"
#include "text/jinja/methods.h"
#include "text/jinja/text_functions.h"

namespace penstock::jinja {
namespace {

using Result = absl::StatusOr<Value>;
using Bound = std::vector<std::optional<Value>>;

Value Texts(std::vector<std::string> texts) {
  std::vector<Value> items;
  items.reserve(texts.size());
  for (std::string& text : texts) items.push_back(Value::String(std::move(text)));
  return Value::MakeList(std::move(items));
}

template <std::string (*map)(std::string_view)>
Result Mapped(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("str method", {}, 0, arguments));
  RETURN_IF_ERROR(runtime.ChargeText(self.string().size()));
  return Value::String(map(self.string()));
}

template <bool left, bool right>
Result Stripped(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("strip", {"chars"}, 0, arguments));
  RETURN_IF_ERROR(runtime.ChargeText(self.string().size()));
  if (!bound[0] || bound[0]->is_none())
    return Value::String(std::string(Strip(self.string(), std::nullopt, left, right)));
  ASSIGN_OR_RETURN(const std::string characters, TextOr(bound[0], ""));
  return Value::String(std::string(Strip(self.string(), characters, left, right)));
}

template <bool from_right>
Result SplitText(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("split", {"sep", "maxsplit"}, 0, arguments));
  ASSIGN_OR_RETURN(const int64_t max, IntegerOr(bound[1], -1));
  RETURN_IF_ERROR(runtime.ChargeText(self.string().size()));
  std::vector<std::string> parts;
  if (!bound[0] || bound[0]->is_none()) {
    parts = SplitWords(self.string(), max, from_right);
  } else {
    ASSIGN_OR_RETURN(const std::string separator, TextOr(bound[0], ""));
    if (separator.empty()) return ValueError("empty separator");
    parts = SplitAt(self.string(), separator, max, from_right);
  }
  RETURN_IF_ERROR(runtime.ChargeItems(parts.size()));
  return Texts(std::move(parts));
}

Result Lines(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("splitlines", {"keepends"}, 0, arguments));
  std::vector<std::string> lines = SplitLines(self.string(), TruthOr(bound[0], false));
  RETURN_IF_ERROR(runtime.ChargeItems(lines.size()));
  return Texts(std::move(lines));
}

template <bool from_right>
Result Partition(Runtime&, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("partition", {"sep"}, 1, arguments));
  ASSIGN_OR_RETURN(const std::string separator, TextOr(bound[0], ""));
  if (separator.empty()) return ValueError("empty separator");
  const std::string& text = self.string();
  const size_t at = from_right ? text.rfind(separator) : text.find(separator);
  if (at == std::string::npos) {
    const Value empty = Value::String("");
    return from_right ? Value::MakeTuple({empty, empty, self})
                      : Value::MakeTuple({self, empty, empty});
  }
  return Value::MakeTuple({Value::String(text.substr(0, at)), Value::String(separator),
                           Value::String(text.substr(at + separator.size()))});
}

// The bytes of text[start:end], with `offset` the code points before them.
struct Window {
  std::string_view text;
  int64_t offset = 0;
  bool valid = true;  // false: start lies beyond the end
};

absl::StatusOr<Window> MakeWindow(std::string_view text, const std::optional<Value>& start_value,
                                  const std::optional<Value>& end_value) {
  const auto given = [](const std::optional<Value>& v) { return v && !v->is_none(); };
  if (!given(start_value) && !given(end_value)) return Window{text, 0, true};
  const auto size = static_cast<int64_t>(CountCodePoints(text));
  int64_t start = 0;
  int64_t end = size;
  if (given(start_value)) {
    ASSIGN_OR_RETURN(start, IntegerOr(start_value, 0));
  }
  if (given(end_value)) {
    ASSIGN_OR_RETURN(end, IntegerOr(end_value, 0));
  }
  start = std::max<int64_t>(start < 0 ? std::max(start, -size) + size : start, 0);
  end = std::min(end < 0 ? std::max<int64_t>(std::max(end, -size - 1) + size, 0) : end, size);
  if (start > end) return Window{"", start, false};
  size_t begin = 0;
  for (int64_t i = 0; i < start; ++i) begin += DecodeUtf8(text, begin).length;
  size_t stop = begin;
  for (int64_t i = start; i < end; ++i) stop += DecodeUtf8(text, stop).length;
  return Window{text.substr(begin, stop - begin), start, true};
}

template <bool at_end>
Result HasAffix(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const char* name = at_end ? "endswith" : "startswith";
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments(name, {"prefix", "start", "end"}, 1, arguments));
  ASSIGN_OR_RETURN(const Window window, MakeWindow(self.string(), bound[1], bound[2]));
  std::vector<Value> affixes = {*bound[0]};
  if (bound[0]->is_tuple()) affixes = bound[0]->items();
  RETURN_IF_ERROR(runtime.ChargeItems(affixes.size()));
  for (const Value& affix : affixes) {
    if (affix.is_undefined()) return UndefinedError(affix);
    if (!affix.is_string()) {
      return TypeError(absl::StrCat(name, " first arg must be str or a tuple of str, not ",
                                    ToAbsl(affix.type_name())));
    }
    const std::string& s = affix.string();
    if (!window.valid || s.size() > window.text.size()) continue;
    if (window.text.substr(at_end ? window.text.size() - s.size() : 0, s.size()) == s)
      return Value::Bool(true);
  }
  return Value::Bool(false);
}

template <bool from_right, bool raises>
Result FindText(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("find", {"sub", "start", "end"}, 1, arguments));
  ASSIGN_OR_RETURN(const std::string sub, TextOr(bound[0], ""));
  ASSIGN_OR_RETURN(const Window window, MakeWindow(self.string(), bound[1], bound[2]));
  RETURN_IF_ERROR(runtime.ChargeText(self.string().size()));
  const size_t at = !window.valid ? std::string_view::npos
                    : from_right  ? window.text.rfind(sub)
                                  : window.text.find(sub);
  if (at == std::string_view::npos)
    return raises ? Result(ValueError("substring not found")) : Value::Int(-1);
  return Value::Int(window.offset +
                    static_cast<int64_t>(CountCodePoints(window.text.substr(0, at))));
}

Result CountText(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("count", {"sub", "start", "end"}, 1, arguments));
  ASSIGN_OR_RETURN(const std::string sub, TextOr(bound[0], ""));
  ASSIGN_OR_RETURN(const Window window, MakeWindow(self.string(), bound[1], bound[2]));
  RETURN_IF_ERROR(runtime.ChargeText(self.string().size()));
  return Value::Int(window.valid ? static_cast<int64_t>(CountOccurrences(window.text, sub)) : 0);
}

Result Replace(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("replace", {"old", "new", "count"}, 2, arguments));
  ASSIGN_OR_RETURN(const std::string from, TextOr(bound[0], ""));
  ASSIGN_OR_RETURN(const std::string to, TextOr(bound[1], ""));
  ASSIGN_OR_RETURN(const int64_t max, IntegerOr(bound[2], -1));
  RETURN_IF_ERROR(
      runtime.ChargeText(self.string().size() + CountOccurrences(self.string(), from) * to.size()));
  return Value::String(ReplaceText(self.string(), from, to, max));
}

Result Join(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("join", {"iterable"}, 1, arguments));
  ASSIGN_OR_RETURN(const std::vector<Value> items, CollectItems(runtime, *bound[0]));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!items[i].is_string()) {
      return TypeError(absl::StrCat("sequence item ", i, ": expected str instance, ",
                                    ToAbsl(items[i].type_name()), " found"));
    }
    RETURN_IF_ERROR(
        runtime.ChargeText(out.size() + self.string().size() + items[i].string().size()));
    if (i > 0) out += self.string();
    out += items[i].string();
  }
  return Value::String(std::move(out));
}

Result Format(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(std::string text, FormatBraces(runtime, self.string(), arguments));
  return Value::String(std::move(text));
}

// `align`: -1 text at the left, 0 in the middle, 1 at the right.
template <int align>
Result Justify(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("justify", {"width", "fillchar"}, 1, arguments));
  ASSIGN_OR_RETURN(const int64_t width, IntegerOr(bound[0], 0));
  ASSIGN_OR_RETURN(const std::string fill, TextOr(bound[1], " "));
  if (CountCodePoints(fill) != 1)
    return TypeError("The fill character must be exactly one character long");
  const auto length = static_cast<int64_t>(CountCodePoints(self.string()));
  if (width <= length) return self;
  const int64_t missing = width - length;
  RETURN_IF_ERROR(runtime.ChargeText(static_cast<uint64_t>(missing)));
  const int64_t left = align < 0 ? 0 : align > 0 ? missing : missing / 2 + (missing & width & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += self.string();
  for (int64_t i = left; i < missing; ++i) out += fill;
  return Value::String(std::move(out));
}

Result ZeroFill(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("zfill", {"width"}, 1, arguments));
  ASSIGN_OR_RETURN(const int64_t width, IntegerOr(bound[0], 0));
  const std::string& text = self.string();
  const auto length = static_cast<int64_t>(CountCodePoints(text));
  if (width <= length) return self;
  RETURN_IF_ERROR(runtime.ChargeText(static_cast<uint64_t>(width)));
  const size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  return Value::String(text.substr(0, sign) +
                       std::string(static_cast<size_t>(width - length), '0') + text.substr(sign));
}

template <bool at_end>
Result RemoveAffix(Runtime&, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("removeaffix", {"affix"}, 1, arguments));
  ASSIGN_OR_RETURN(const std::string affix, TextOr(bound[0], ""));
  const std::string& text = self.string();
  if (affix.empty() || affix.size() > text.size()) return self;
  const size_t at = at_end ? text.size() - affix.size() : 0;
  if (text.compare(at, affix.size(), affix) != 0) return self;
  return Value::String(at_end ? text.substr(0, at) : text.substr(affix.size()));
}

// True for a text that is not empty where all characters satisfy `test`.
template <bool (*test)(char32_t)>
Result AllAre(Runtime&, const Value& self, const Arguments&) {
  const std::u32string points = ToCodePoints(self.string());
  return Value::Bool(!points.empty() && std::all_of(points.begin(), points.end(), test));
}

bool IsDecimal(char32_t c) { return u_charType(static_cast<UChar32>(c)) == U_DECIMAL_DIGIT_NUMBER; }
bool IsDigit(char32_t c) {
  const int type = u_getIntPropertyValue(static_cast<UChar32>(c), UCHAR_NUMERIC_TYPE);
  return type == U_NT_DECIMAL || type == U_NT_DIGIT;
}
bool IsNumeric(char32_t c) {
  return u_getIntPropertyValue(static_cast<UChar32>(c), UCHAR_NUMERIC_TYPE) != U_NT_NONE;
}
bool IsAlpha(char32_t c) { return (U_GET_GC_MASK(static_cast<UChar32>(c)) & U_GC_L_MASK) != 0; }
bool IsAlnum(char32_t c) { return IsAlpha(c) || IsNumeric(c); }

template <bool upper>
Result IsCase(Runtime&, const Value& self, const Arguments&) {
  bool any = false;
  for (const char32_t c : ToCodePoints(self.string())) {
    const bool is_upper = u_isUUppercase(static_cast<UChar32>(c));
    const bool is_lower = u_isULowercase(static_cast<UChar32>(c));
    if (upper ? is_lower || u_istitle(static_cast<UChar32>(c))
              : is_upper || u_istitle(static_cast<UChar32>(c))) {
      return Value::Bool(false);
    }
    any = any || is_upper || is_lower;
  }
  return Value::Bool(any);
}

Result IsTitle(Runtime&, const Value& self, const Arguments&) {
  return Value::Bool(!self.string().empty() && ToLower(self.string()) != ToUpper(self.string()) &&
                     TitleWords(self.string()) == self.string());
}

Result IsAscii(Runtime&, const Value& self, const Arguments&) {
  const std::string& text = self.string();
  return Value::Bool(std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; }));
}

Result IsIdentifier(Runtime&, const Value& self, const Arguments&) {
  const std::u32string points = ToCodePoints(self.string());
  if (points.empty()) return Value::Bool(false);
  const auto start = [](char32_t c) {
    return c == '_' || u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_XID_START);
  };
  const auto part = [](char32_t c) {
    return u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_XID_CONTINUE) != 0;
  };
  return Value::Bool(start(points[0]) && std::all_of(points.begin() + 1, points.end(), part));
}

Result ExpandTabs(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("expandtabs", {"tabsize"}, 0, arguments));
  ASSIGN_OR_RETURN(const int64_t size, IntegerOr(bound[0], 8));
  std::string out;
  int64_t column = 0;
  for (const char c : self.string()) {
    if (c != '\t') {
      out += c;
      column = c == '\n' || c == '\r' ? 0 : column + ((c & 0xC0) == 0x80 ? 0 : 1);
      continue;
    }
    const int64_t blanks = size > 0 ? size - column % size : 0;
    RETURN_IF_ERROR(runtime.ChargeText(out.size() + static_cast<uint64_t>(blanks)));
    out.append(static_cast<size_t>(blanks), ' ');
    column += blanks;
  }
  return Value::String(std::move(out));
}

}  // namespace

MethodFunction FindStringMethod(std::string_view name) {
  static const auto& table = *new absl::flat_hash_map<std::string_view, MethodFunction>{
      {"upper", Mapped<ToUpper>},
      {"lower", Mapped<ToLower>},
      {"casefold", Mapped<FoldCase>},
      {"capitalize", Mapped<Capitalize>},
      {"title", Mapped<TitleWords>},
      {"swapcase", Mapped<SwapCase>},
      {"strip", Stripped<true, true>},
      {"lstrip", Stripped<true, false>},
      {"rstrip", Stripped<false, true>},
      {"split", SplitText<false>},
      {"rsplit", SplitText<true>},
      {"splitlines", Lines},
      {"partition", Partition<false>},
      {"rpartition", Partition<true>},
      {"startswith", HasAffix<false>},
      {"endswith", HasAffix<true>},
      {"find", FindText<false, false>},
      {"rfind", FindText<true, false>},
      {"index", FindText<false, true>},
      {"rindex", FindText<true, true>},
      {"count", CountText},
      {"replace", Replace},
      {"join", Join},
      {"format", Format},
      {"ljust", Justify<-1>},
      {"center", Justify<0>},
      {"rjust", Justify<1>},
      {"zfill", ZeroFill},
      {"removeprefix", RemoveAffix<false>},
      {"removesuffix", RemoveAffix<true>},
      {"expandtabs", ExpandTabs},
      {"isspace", AllAre<IsPythonSpace>},
      {"isdecimal", AllAre<IsDecimal>},
      {"isdigit", AllAre<IsDigit>},
      {"isnumeric", AllAre<IsNumeric>},
      {"isalpha", AllAre<IsAlpha>},
      {"isalnum", AllAre<IsAlnum>},
      {"isupper", IsCase<true>},
      {"islower", IsCase<false>},
      {"istitle", IsTitle},
      {"isascii", IsAscii},
      {"isidentifier", IsIdentifier},
  };
  const auto it = table.find(name);
  return it == table.end() ? nullptr : it->second;
}

}  // namespace penstock::jinja
