#include "service/wire_json.h"

#include <simdjson.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/json_body.h"

namespace penstock {
namespace {

namespace dom = simdjson::dom;
using dom::element_type;

constexpr size_t kDepth = 100;           // simdjson counts the document, not what is empty
constexpr size_t kDeeper = kDepth + 10;  // of what was read before
constexpr size_t kMembers = 1024;        // per object
constexpr size_t kContainers =
    1 << 18;  // arrays and objects, each of which costs more than its two bytes
constexpr size_t kKept = 256 << 10;  // bytes of a document whose buffers are used again

}  // namespace

struct WireParser {
  bool Read(std::string_view text, size_t depth) {
    constexpr size_t kLeast = 1024;
    const size_t capacity = std::max({text.size(), parser.capacity(), kLeast});
    return parser.allocate(capacity, depth) == simdjson::SUCCESS &&
           parser.parse(text.data(), text.size()).get(root) == simdjson::SUCCESS;
  }
  dom::parser parser;
  dom::element root;
};

struct WireElement {
  static_assert(sizeof(dom::element) == sizeof(WireValue::element_) &&
                std::is_trivially_copyable_v<dom::element>);
  static dom::element Of(const WireValue& value) {
    return std::bit_cast<dom::element>(value.element_);
  }
  static WireValue Make(const dom::element& element) {
    WireValue value;
    value.element_ = std::bit_cast<std::array<std::byte, 16>>(element);
    return value;
  }
};

namespace {

/// As what it is, which the caller knows.
template <class T>
T As(const dom::element& element) {
  T value{};
  return element.get(value) == simdjson::SUCCESS ? value : T{};
}

element_type TypeOf(const WireValue& value) { return WireElement::Of(value).type(); }

/// Buffers that the thread's last document has left.
std::unique_ptr<WireParser>& Spare() {
  thread_local std::unique_ptr<WireParser> spare;
  return spare;
}

/// No object of it has more members than may be, and there are no more than `left` arrays and objects.
bool IsBounded(const dom::element& element, size_t& left) {
  const bool array = element.is_array();
  if (!array && !element.is_object()) return true;
  if (left-- == 0) return false;
  if (array) {
    const dom::array items = As<dom::array>(element);
    return std::all_of(items.begin(), items.end(),
                       [&](const dom::element& item) { return IsBounded(item, left); });
  }
  size_t members = 0;
  for (const dom::key_value_pair member : As<dom::object>(element)) {
    if (++members > kMembers || !IsBounded(member.value, left)) return false;
  }
  return true;
}

nlohmann::ordered_json TreeOf(const dom::element& element) {
  using Json = nlohmann::ordered_json;
  switch (element.type()) {
    case element_type::ARRAY: {
      Json out = Json::array();
      for (const dom::element item : As<dom::array>(element)) out.push_back(TreeOf(item));
      return out;
    }
    case element_type::OBJECT: {
      Json out = Json::object();
      for (const dom::key_value_pair member : As<dom::object>(element))
        out[std::string(member.key)] = TreeOf(member.value);
      return out;
    }
    case element_type::STRING:
      return std::string(As<std::string_view>(element));
    case element_type::INT64: {
      const int64_t number = As<int64_t>(element);
      // As nlohmann reads it: what has no sign is unsigned.
      if (number >= 0) return static_cast<uint64_t>(number);
      return number;
    }
    case element_type::UINT64:
      return As<uint64_t>(element);
    case element_type::DOUBLE:
      return As<double>(element);
    case element_type::BOOL:
      return As<bool>(element);
    case element_type::NULL_VALUE:
      break;
  }
  return nullptr;
}

}  // namespace

std::string_view WireValue::type_name() const {
  switch (TypeOf(*this)) {
    case element_type::ARRAY:
      return "array";
    case element_type::OBJECT:
      return "object";
    case element_type::STRING:
      return "string";
    case element_type::BOOL:
      return "boolean";
    case element_type::NULL_VALUE:
      return "null";
    default:
      return "number";
  }
}

bool WireValue::is_null() const { return TypeOf(*this) == element_type::NULL_VALUE; }
bool WireValue::is_boolean() const { return TypeOf(*this) == element_type::BOOL; }
bool WireValue::is_string() const { return TypeOf(*this) == element_type::STRING; }
bool WireValue::is_array() const { return TypeOf(*this) == element_type::ARRAY; }
bool WireValue::is_object() const { return TypeOf(*this) == element_type::OBJECT; }
bool WireValue::is_number() const { return is_integer() || TypeOf(*this) == element_type::DOUBLE; }
bool WireValue::is_integer() const {
  const element_type type = TypeOf(*this);
  return type == element_type::INT64 || type == element_type::UINT64;
}

bool WireValue::boolean() const { return is_boolean() && As<bool>(WireElement::Of(*this)); }

double WireValue::number() const { return is_number() ? As<double>(WireElement::Of(*this)) : 0; }

std::string_view WireValue::text() const { return As<std::string_view>(WireElement::Of(*this)); }

std::optional<int64_t> WireValue::integer() const {
  switch (TypeOf(*this)) {
    case element_type::INT64:
      return As<int64_t>(WireElement::Of(*this));
    case element_type::DOUBLE: {
      const double value = number();
      if (std::trunc(value) == value && std::abs(value) < 9e15) return static_cast<int64_t>(value);
      return std::nullopt;
    }
    default:
      return std::nullopt;  // UINT64 is only what is beyond int64_t
  }
}

std::vector<WireValue> WireValue::Items() const {
  std::vector<WireValue> items;
  if (!is_array()) return items;
  const dom::array array = As<dom::array>(WireElement::Of(*this));
  items.reserve(array.size());
  for (const dom::element item : array) items.push_back(WireElement::Make(item));
  return items;
}

std::vector<WireValue::Member> WireValue::Members() const {
  std::vector<Member> members;
  if (!is_object()) return members;
  constexpr size_t kFew = 32;  // found faster by looking at all of them
  absl::flat_hash_map<std::string_view, size_t> places;
  const auto find = [&](std::string_view name) {
    if (members.size() < kFew) {
      return std::find_if(members.begin(), members.end(),
                          [&](const Member& member) { return member.first == name; });
    }
    for (size_t i = places.size(); i < members.size(); ++i) places.emplace(members[i].first, i);
    const auto it = places.find(name);
    return it == places.end() ? members.end() : members.begin() + it->second;
  };
  for (const dom::key_value_pair member : As<dom::object>(WireElement::Of(*this))) {
    const WireValue value = WireElement::Make(member.value);
    const auto known = find(member.key);
    if (known == members.end()) {
      members.emplace_back(member.key, value);
    } else {
      known->second = value;
    }
  }
  return members;
}

std::optional<WireValue> WireValue::Find(std::string_view name) const {
  std::optional<WireValue> found;
  if (!is_object()) return found;
  for (const dom::key_value_pair member : As<dom::object>(WireElement::Of(*this))) {
    if (member.key == name) found = WireElement::Make(member.value);
  }
  return found;
}

nlohmann::ordered_json WireValue::Tree() const { return TreeOf(WireElement::Of(*this)); }

WireDocument::WireDocument(std::unique_ptr<WireParser> parser)
    : parser_(std::move(parser)), root_(WireElement::Make(parser_->root)) {}
WireDocument::~WireDocument() {
  if (parser_ != nullptr && parser_->parser.capacity() <= kKept) Spare() = std::move(parser_);
}
WireDocument::WireDocument(WireDocument&&) noexcept = default;
WireDocument& WireDocument::operator=(WireDocument&&) noexcept = default;

absl::StatusOr<WireDocument> WireDocument::Parse(std::string_view text, std::string_view what) {
  std::unique_ptr<WireParser> parser = std::move(Spare());
  if (parser == nullptr) parser = std::make_unique<WireParser>();
  // Who has few colons has few members, and a short text few of anything.
  const auto bounded = [&] {
    size_t left = kContainers;
    return (text.size() <= kContainers &&
            static_cast<size_t>(std::count(text.begin(), text.end(), ':')) <= kMembers) ||
           IsBounded(parser->root, left);
  };
  if (parser->Read(text, kDepth) && bounded()) return WireDocument(std::move(parser));
  // What is wrong, in words; or that nothing is: integers beyond 64 bits are numbers like others.
  ASSIGN_OR_RETURN(const nlohmann::ordered_json tree, ParseWireJson(text, what));
  if (parser->Read(tree.dump(), kDeeper)) return WireDocument(std::move(parser));
  return absl::InvalidArgumentError(absl::StrCat(ToAbsl(what), " is not valid JSON"));
}

absl::Status WrongWireType(std::string_view name, std::string_view expected,
                           const WireValue& value) {
  // Of the value its kind is told, no more.
  const bool nested = value.is_array() || value.is_object();
  return WrongJsonType(name, expected,
                       !nested            ? value.Tree()
                       : value.is_array() ? nlohmann::ordered_json::array()
                                          : nlohmann::ordered_json::object());
}

absl::Status WrongWireItem(std::string_view name, size_t index, std::string_view expected,
                           const WireValue& value) {
  const bool shown = value.is_number() || value.is_boolean();
  if (shown) return WrongJsonItem(name, index, expected, value.Tree());
  return WrongJsonItem(name, index, expected,
                       value.is_array()    ? nlohmann::ordered_json::array()
                       : value.is_object() ? nlohmann::ordered_json::object()
                       : value.is_string() ? nlohmann::ordered_json("")
                                           : nlohmann::ordered_json(nullptr));
}

}  // namespace penstock
