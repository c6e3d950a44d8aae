// pprint: Python's pprint.pformat, lines of at most 80 characters where values can be broken.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "text/jinja/filters.h"
#include "text/jinja/format.h"
#include "text/jinja/lexer_strings.h"
#include "text/jinja/operators.h"
#include "text/jinja/text_functions.h"

namespace penstock::jinja {
namespace {

constexpr int64_t kPrintWidth = 80;

using Entry = std::pair<Value, Value>;

/// By value where two keys have an order, else by the names of their types.
bool KeyLess(const Entry& a, const Entry& b) {
  const absl::StatusOr<int> order = Order(a.first, b.first, "<");
  if (order.ok()) return *order == -1;
  return a.first.type_name() < b.first.type_name();
}

std::vector<Entry> SortedEntries(const Dict& dict) {
  std::vector<Entry> entries = dict.entries();
  std::stable_sort(entries.begin(), entries.end(), KeyLess);
  return entries;
}

class PrettyPrinter {
 public:
  explicit PrettyPrinter(Runtime& runtime) : runtime_(runtime) {}

  absl::StatusOr<std::string> Print(const Value& value) {
    RETURN_IF_ERROR(Write(value, 0, 0, 0));
    return std::move(out_);
  }

 private:
  /// On one line, dicts sorted.
  absl::Status AppendLine(const Value& value, std::string* line) {
    RETURN_IF_ERROR(runtime_.Charge(1));
    if (value.is_sequence()) {
      *line += value.is_list() ? '[' : '(';
      for (size_t i = 0; i < value.items().size(); ++i) {
        if (i > 0) *line += ", ";
        RETURN_IF_ERROR(AppendLine(value.items()[i], line));
      }
      *line += value.is_list() ? "]" : value.items().size() == 1 ? ",)" : ")";
    } else if (value.is_dict()) {
      *line += '{';
      for (const auto& [key, member] : SortedEntries(value.dict())) {
        if (line->back() != '{') *line += ", ";
        RETURN_IF_ERROR(AppendLine(key, line));
        *line += ": ";
        RETURN_IF_ERROR(AppendLine(member, line));
      }
      *line += '}';
    } else {
      const std::string text = Repr(value);
      *line += value.is_safe() ? absl::StrCat("Markup(", text, ")") : text;
    }
    return runtime_.ChargeText(line->size());
  }

  /// `allowance`: characters that follow behind the value on its last line.
  absl::Status Write(const Value& value, int64_t indent, int64_t allowance, int level) {
    std::string line;
    RETURN_IF_ERROR(AppendLine(value, &line));
    const bool fits =
        static_cast<int64_t>(CountCodePoints(line)) <= kPrintWidth - indent - allowance;
    if (!fits && value.is_sequence()) return WriteItems(value, indent, allowance, level + 1);
    if (!fits && value.is_dict()) return WriteEntries(value.dict(), indent, allowance, level + 1);
    if (!fits && value.is_string() && !value.is_safe())
      return WriteText(value.string(), indent, allowance, level + 1);
    out_ += line;
    return runtime_.ChargeText(out_.size());
  }

  void BreakLine(int64_t indent) {
    out_ += '\n';
    out_.append(static_cast<size_t>(indent), ' ');
  }

  absl::Status WriteItems(const Value& value, int64_t indent, int64_t allowance, int level) {
    const std::vector<Value>& items = value.items();
    const std::string_view close = value.is_list() ? "]" : items.size() == 1 ? ",)" : ")";
    out_ += value.is_list() ? '[' : '(';
    for (size_t i = 0; i < items.size(); ++i) {
      const bool last = i + 1 == items.size();
      const int64_t behind = last ? allowance + static_cast<int64_t>(close.size()) : 1;
      RETURN_IF_ERROR(Write(items[i], indent + 1, behind, level));
      if (last) break;
      out_ += ',';
      BreakLine(indent + 1);
    }
    out_ += close;
    return absl::OkStatus();
  }

  absl::Status WriteEntries(const Dict& dict, int64_t indent, int64_t allowance, int level) {
    const std::vector<Entry> entries = SortedEntries(dict);
    out_ += '{';
    for (size_t i = 0; i < entries.size(); ++i) {
      const bool last = i + 1 == entries.size();
      std::string key;
      RETURN_IF_ERROR(AppendLine(entries[i].first, &key));
      absl::StrAppend(&out_, key, ": ");
      const auto size = static_cast<int64_t>(CountCodePoints(key));
      RETURN_IF_ERROR(
          Write(entries[i].second, indent + 1 + size + 2, last ? allowance + 1 : 1, level));
      if (last) break;
      out_ += ',';
      BreakLine(indent + 1);
    }
    out_ += '}';
    return absl::OkStatus();
  }

  static int64_t ReprSize(const std::string& text) {
    return static_cast<int64_t>(CountCodePoints(ReprString(text)));
  }

  /// A line of text in parts that fit, broken behind white space.
  absl::Status AppendParts(const std::string& line, int64_t width, int64_t last_width,
                           std::vector<std::string>* parts) {
    std::string current;
    for (size_t pos = 0; pos < line.size();) {
      size_t end = pos;
      bool in_space = false;
      while (end < line.size()) {
        const DecodedCodePoint c = DecodeUtf8(line, end);
        const bool space = IsPythonSpace(c.value);
        if (in_space && !space) break;
        in_space = space;
        end += c.length;
      }
      const std::string word = line.substr(pos, end - pos);
      pos = end;
      const std::string candidate = current + word;
      RETURN_IF_ERROR(runtime_.ChargeText(candidate.size()));
      if (ReprSize(candidate) > (pos == line.size() ? last_width : width)) {
        if (!current.empty()) parts->push_back(ReprString(current));
        current = word;
      } else {
        current = candidate;
      }
    }
    if (!current.empty()) parts->push_back(ReprString(current));
    return absl::OkStatus();
  }

  absl::Status WriteText(const std::string& text, int64_t indent, int64_t allowance, int level) {
    const bool outermost = level == 1;
    if (outermost) {
      ++indent;
      ++allowance;
    }
    const int64_t width = kPrintWidth - indent;
    const std::vector<std::string> lines = SplitLines(text, true);
    std::vector<std::string> parts;
    for (size_t i = 0; i < lines.size(); ++i) {
      const int64_t last_width = i + 1 == lines.size() ? width - allowance : width;
      RETURN_IF_ERROR(runtime_.ChargeText(lines[i].size()));
      if (ReprSize(lines[i]) <= last_width) {
        parts.push_back(ReprString(lines[i]));
      } else {
        RETURN_IF_ERROR(AppendParts(lines[i], width, last_width, &parts));
      }
    }
    const bool brackets = outermost && parts.size() > 1;
    if (brackets) out_ += '(';
    for (size_t i = 0; i < parts.size(); ++i) {
      if (i > 0) BreakLine(indent);
      out_ += parts[i];
      RETURN_IF_ERROR(runtime_.ChargeText(parts[i].size() + static_cast<uint64_t>(indent)));
    }
    if (brackets) out_ += ')';
    return absl::OkStatus();
  }

  Runtime& runtime_;
  std::string out_;
};

}  // namespace

absl::StatusOr<Value> PrettyPrint(Runtime& runtime, const Value& value,
                                  const Arguments& arguments) {
  RETURN_IF_ERROR(BindArguments("pprint", {}, 0, arguments).status());
  ASSIGN_OR_RETURN(std::string text, PrettyPrinter(runtime).Print(value));
  return Value::String(std::move(text));
}

}  // namespace penstock::jinja
