// json.dumps.
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "text/jinja/format.h"
#include "text/jinja/objects.h"

namespace penstock::jinja {
namespace {

class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, const JsonFormat& format) : runtime_(runtime), format_(format) {}

  absl::Status Write(const Value& value) {
    RETURN_IF_ERROR(runtime_.Charge(1));
    if (value.is_none()) {
      out_ += "null";
    } else if (value.is_bool()) {
      out_ += value.integer() != 0 ? "true" : "false";
    } else if (value.is_int() || value.As<WideInteger>() != nullptr) {
      out_ += ToText(value);
    } else if (value.is_float()) {
      WriteFloat(value.number());
    } else if (value.is_string()) {
      RETURN_IF_ERROR(WriteString(value.string()));
    } else if (value.is_sequence()) {
      RETURN_IF_ERROR(WriteList(value.items()));
    } else if (value.is_dict()) {
      RETURN_IF_ERROR(WriteDict(value.dict()));
    } else {
      return TypeError(
          absl::StrCat("Object of type ", ToAbsl(value.type_name()), " is not JSON serializable"));
    }
    return absl::OkStatus();
  }

  std::string Take() { return std::move(out_); }

 private:
  void WriteFloat(double value) {
    if (std::isnan(value)) {
      out_ += "NaN";
    } else if (std::isinf(value)) {
      out_ += value < 0 ? "-Infinity" : "Infinity";
    } else {
      out_ += ReprFloat(value);
    }
  }

  absl::Status WriteString(std::string_view text) {
    RETURN_IF_ERROR(runtime_.ChargeText(
        out_.size() + text.size() > static_cast<size_t>(runtime_.limits().max_text_bytes)
            ? out_.size() + text.size()
            : text.size()));
    out_ += '"';
    for (size_t pos = 0; pos < text.size();) {
      const DecodedCodePoint c = DecodeUtf8(text, pos);
      WriteCharacter(c.value, text.substr(pos, c.length));
      pos += c.length;
    }
    out_ += '"';
    return absl::OkStatus();
  }

  void WriteCharacter(char32_t c, std::string_view bytes) {
    constexpr std::string_view kShort = "\"\\\n\r\t\f\b";
    constexpr std::string_view kLetters = "\"\\nrtfb";
    const size_t i = c < 0x80 ? kShort.find(static_cast<char>(c)) : std::string_view::npos;
    if (i != std::string_view::npos) {
      out_ += '\\';
      out_ += kLetters[i];
    } else if (c < 0x20 || (format_.ensure_ascii && c >= 0x7F && c < 0x10000)) {
      absl::StrAppendFormat(&out_, "\\u%04x", static_cast<uint32_t>(c));
    } else if (format_.ensure_ascii && c >= 0x10000) {
      const auto v = static_cast<uint32_t>(c) - 0x10000;
      absl::StrAppendFormat(&out_, "\\u%04x\\u%04x", 0xD800 + (v >> 10), 0xDC00 + (v & 0x3FF));
    } else {
      out_ += bytes;
    }
  }

  // Between brackets: before an item, or (last) before the closing bracket.
  absl::Status Separate(bool first, bool last) {
    if (!first && !last) out_ += format_.item_separator;
    if (!format_.pretty) return absl::OkStatus();
    const size_t levels = static_cast<size_t>(level_);
    RETURN_IF_ERROR(runtime_.ChargeText(out_.size() + levels * format_.indent.size()));
    out_ += '\n';
    for (size_t i = 0; i < levels; ++i) out_ += format_.indent;
    return absl::OkStatus();
  }

  absl::Status WriteList(const std::vector<Value>& items) {
    if (items.empty()) {
      out_ += "[]";
      return absl::OkStatus();
    }
    out_ += '[';
    ++level_;
    for (size_t i = 0; i < items.size(); ++i) {
      RETURN_IF_ERROR(Separate(i == 0, false));
      RETURN_IF_ERROR(Write(items[i]));
    }
    --level_;
    RETURN_IF_ERROR(Separate(false, true));
    out_ += ']';
    return absl::OkStatus();
  }

  static absl::StatusOr<std::string> KeyText(const Value& key) {
    if (key.is_string()) return key.string();
    if (key.is_none()) return std::string("null");
    if (key.is_bool()) return std::string(key.integer() != 0 ? "true" : "false");
    if (key.is_number()) return ToText(key);
    return TypeError(
        absl::StrCat("keys must be str, int, float, bool or None, not ", ToAbsl(key.type_name())));
  }

  absl::Status WriteDict(const Dict& dict) {
    if (dict.size() == 0) {
      out_ += "{}";
      return absl::OkStatus();
    }
    std::vector<std::pair<std::string, const Value*>> members;
    for (const auto& [key, value] : dict.entries()) {
      ASSIGN_OR_RETURN(std::string text, KeyText(key));
      members.emplace_back(std::move(text), &value);
    }
    if (format_.sort_keys) {
      std::stable_sort(members.begin(), members.end(),
                       [](const auto& a, const auto& b) { return a.first < b.first; });
    }
    out_ += '{';
    ++level_;
    bool first = true;
    for (const auto& [key, value] : members) {
      RETURN_IF_ERROR(Separate(first, false));
      first = false;
      RETURN_IF_ERROR(WriteString(key));
      out_ += format_.key_separator;
      RETURN_IF_ERROR(Write(*value));
    }
    --level_;
    RETURN_IF_ERROR(Separate(false, true));
    out_ += '}';
    return absl::OkStatus();
  }

  Runtime& runtime_;
  const JsonFormat& format_;
  std::string out_;
  int level_ = 0;
};

}  // namespace

absl::StatusOr<std::string> ToJson(Runtime& runtime, const Value& value, const JsonFormat& format) {
  JsonWriter writer(runtime, format);
  RETURN_IF_ERROR(writer.Write(value));
  return writer.Take();
}

}  // namespace penstock::jinja
