#include "service/json_body.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/strings.h"
#include "service/call_error.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxDepth = 100;
constexpr size_t kMaxMembers = 1024;  // per object; looking one up is linear
constexpr size_t kMaxContainers = 1 << 18;

// Builds the document; refuses what would be slow or deep before it is built.
class BoundedBuilder {
 public:
  explicit BoundedBuilder(Json& root) : builder_(root, false) {}

  bool null() { return builder_.null(); }
  bool boolean(bool value) { return builder_.boolean(value); }
  bool number_integer(Json::number_integer_t value) { return builder_.number_integer(value); }
  bool number_unsigned(Json::number_unsigned_t value) { return builder_.number_unsigned(value); }
  bool number_float(Json::number_float_t value, const std::string& text) {
    return builder_.number_float(value, text);
  }
  bool string(std::string& value) { return builder_.string(value); }
  bool binary(Json::binary_t& value) { return builder_.binary(value); }
  bool start_object(size_t size) { return Enter() && builder_.start_object(size); }
  bool key(std::string& value) {
    keys_.back() = value;
    if (++members_.back() > kMaxMembers)
      return Refuse(absl::StrCat("an object has more than ", kMaxMembers, " members"));
    return builder_.key(value);
  }
  bool end_object() { return Leave() && builder_.end_object(); }
  bool start_array(size_t size) { return Enter() && builder_.start_array(size); }
  bool end_array() { return Leave() && builder_.end_array(); }
  bool parse_error(size_t position, const std::string& last_token,
                   const nlohmann::detail::exception& error) {
    position_ = position;
    const std::string_view what = error.what();
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while ...; last
    // read: 'text'": the last part, without what the client sent, as errors are logged.
    size_t at = what.find("column ");
    at = at == std::string_view::npos ? what.find("] ") : what.find(": ", at);
    message_ = std::string(at == std::string_view::npos ? what : what.substr(at + 2));
    message_.resize(std::min(message_.size(), message_.find("; last read: ")));
    (void)last_token;
    return false;
  }

  const std::string& message() const { return message_; }
  size_t position() const { return position_; }

 private:
  bool Enter() {
    members_.push_back(0);
    keys_.emplace_back();
    if (++containers_ > kMaxContainers)
      return Refuse(absl::StrCat("more than ", kMaxContainers, " arrays and objects"));
    return members_.size() <= kMaxDepth ||
           Refuse(absl::StrCat("nested deeper than ", kMaxDepth, " levels"));
  }
  bool Leave() {
    members_.pop_back();
    keys_.pop_back();
    return true;
  }
  bool Refuse(std::string message) {
    // Where, as far as that helps.
    constexpr size_t kMostPath = 100;
    std::string path;
    for (const std::string& key : keys_) {
      if (path.size() > kMostPath) break;
      if (!key.empty()) absl::StrAppend(&path, path.empty() ? "" : ".", key.substr(0, kMostPath));
    }
    if (!path.empty()) absl::StrAppend(&message, " (in ", path, ")");
    message_ = std::move(message);
    return false;
  }

  nlohmann::detail::json_sax_dom_parser<Json> builder_;
  std::vector<size_t> members_;    // of each open object or array
  std::vector<std::string> keys_;  // of each: the last one
  size_t containers_ = 0;
  std::string message_;
  size_t position_ = 0;
};

}  // namespace

absl::StatusOr<Json> ParseWireJson(std::string_view text, std::string_view what) {
  Json root;
  BoundedBuilder builder(root);
  if (Json::sax_parse(text.begin(), text.end(), &builder)) {
    // The parser takes a NUL for the end; JSON has it nowhere, and what is behind it would go unread.
    if (text.find('\0') == text.npos) return root;
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(what), " is not valid JSON: there is a NUL byte behind its value"));
  }
  std::string where;
  if (builder.position() > 0) {
    const std::string_view before = text.substr(0, std::min(text.size(), builder.position() - 1));
    const size_t line = 1 + static_cast<size_t>(std::count(before.begin(), before.end(), '\n'));
    const size_t line_start = before.rfind('\n');
    const size_t column =
        before.size() - (line_start == std::string_view::npos ? 0 : line_start + 1) + 1;
    where = absl::StrCat(" at line ", line, ", column ", column);
  }
  return absl::InvalidArgumentError(
      absl::StrCat(ToAbsl(what), " is not valid JSON", where, ": ", builder.message()));
}

absl::Status WrongJsonItem(std::string_view name, size_t index, std::string_view expected,
                           const Json& value) {
  const bool shown = value.is_number() || value.is_boolean();
  return InvalidField(name, absl::StrCat(ToAbsl(name), "[", index, "] must be ", ToAbsl(expected),
                                         ", got ", shown ? value.dump() : value.type_name()));
}

absl::Status WrongJsonType(std::string_view name, std::string_view expected, const Json& value) {
  return InvalidField(
      name, absl::StrCat(ToAbsl(name), " must be ", ToAbsl(expected), ", got ", value.type_name()));
}

}  // namespace penstock
