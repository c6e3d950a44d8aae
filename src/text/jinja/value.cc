#include "text/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "base/strings.h"
#include "base/utf8.h"

namespace penstock::jinja {
namespace {

constexpr size_t kIndexed = 12;  // entries from which a dict keeps an index

std::shared_ptr<Sequence> MakeSequence(std::vector<Value> items) {
  auto sequence = std::make_shared<Sequence>();
  for (const Value& item : items) sequence->depth = std::max(sequence->depth, item.depth() + 1);
  sequence->items = std::move(items);
  return sequence;
}

bool DictsEqual(const Dict& a, const Dict& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [key, value] : a.entries()) {
    const Value* other = b.Find(key);
    if (other == nullptr || !(*other == value)) return false;
  }
  return true;
}

// Walks what can be reached by position.
template <class Get>
class PositionIterator final : public Iterator {
 public:
  PositionIterator(Value keep_alive, Get get)
      : keep_alive_(std::move(keep_alive)), get_(std::move(get)) {}
  absl::StatusOr<std::optional<Value>> Next() override { return get_(keep_alive_, &position_); }

 private:
  Value keep_alive_;
  Get get_;
  size_t position_ = 0;
};

template <class Get>
std::unique_ptr<Iterator> MakeIterator(Value value, Get get) {
  return std::make_unique<PositionIterator<Get>>(std::move(value), std::move(get));
}

std::optional<Value> NextItem(const Value& sequence, size_t* position) {
  if (*position >= sequence.items().size()) return std::nullopt;
  return sequence.items()[(*position)++];
}

std::optional<Value> NextKey(const Value& dict, size_t* position) {
  if (*position >= dict.dict().size()) return std::nullopt;
  return dict.dict().entries()[(*position)++].first;
}

std::optional<Value> NextCharacter(const Value& text, size_t* position) {
  const std::string& s = text.string();
  if (*position >= s.size()) return std::nullopt;
  const size_t length = DecodeUtf8(s, *position).length;
  Value character = Value::String(s.substr(*position, length));
  *position += length;
  return character;
}

}  // namespace

Value Value::MakeUndefined(std::string message) {
  return Value(Data(Undefined{std::make_shared<const std::string>(std::move(message))}));
}

Value Value::String(std::string v) {
  return Value(Data(std::make_shared<const std::string>(std::move(v))));
}

Value Value::Safe(std::string v) {
  return Value(Data(SafeText{std::make_shared<const std::string>(std::move(v))}));
}

Value Value::MakeList(std::vector<Value> items) {
  return Value(Data(List{MakeSequence(std::move(items))}));
}

Value Value::MakeTuple(std::vector<Value> items) {
  return Value(Data(Tuple{MakeSequence(std::move(items))}));
}

Value Value::MakeGroup(Value key, Value items) {
  std::shared_ptr<Sequence> sequence = MakeSequence({std::move(key), std::move(items)});
  sequence->is_group = true;
  return Value(Data(Tuple{std::move(sequence)}));
}

Value Value::MakeDict(Dict dict) {
  return Value(Data(std::make_shared<const Dict>(std::move(dict))));
}

const std::vector<Value>& Value::items() const {
  return is_list() ? std::get<List>(data_).sequence->items : std::get<Tuple>(data_).sequence->items;
}

bool Value::Truthy() const {
  if (is_undefined() || is_none()) return false;
  if (is_float()) return number() != 0;
  if (is_integral()) return integer() != 0;
  if (is_string()) return !string().empty();
  if (is_sequence()) return !items().empty();
  if (is_dict()) return dict().size() != 0;
  return object()->Truthy();
}

int Value::depth() const {
  if (is_list()) return std::get<List>(data_).sequence->depth;
  if (is_tuple()) return std::get<Tuple>(data_).sequence->depth;
  if (is_dict()) return dict().depth();
  return is_object() ? object()->depth() : 0;
}

std::string_view Value::type_name() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "NoneType";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_float()) return "float";
  if (is_string()) return is_safe() ? "Markup" : "str";
  if (is_list()) return "list";
  if (is_tuple()) return "tuple";
  if (is_dict()) return "dict";
  return object()->type_name();
}

bool operator==(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return a.integer() == b.integer();
    return a.number() == b.number();
  }
  if (a.is_string() && b.is_string()) return a.string() == b.string();
  if ((a.is_list() && b.is_list()) || (a.is_tuple() && b.is_tuple())) return a.items() == b.items();
  if (a.is_dict() && b.is_dict()) return DictsEqual(a.dict(), b.dict());
  if (a.is_object() && b.is_object()) return a.object()->Equals(*b.object());
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

bool Value::hashable() const {
  if (is_list() || is_dict()) return false;
  if (!is_tuple()) return true;
  return std::all_of(items().begin(), items().end(),
                     [](const Value& item) { return item.hashable(); });
}

size_t Value::HashCode() const {
  if (is_number()) {
    const double v = number();
    const bool whole = is_integral() || (v == std::floor(v) && std::abs(v) < 9e15);
    if (whole) return absl::HashOf(is_integral() ? integer() : static_cast<int64_t>(v));
    return absl::HashOf(v);
  }
  if (is_string()) return absl::HashOf(string());
  if (is_sequence()) return absl::HashOf(items());
  return absl::HashOf(data_.index());
}

bool Value::SameAs(const Value& other) const {
  if (data_.index() != other.data_.index()) return false;
  if (is_list()) return std::get<List>(data_).sequence == std::get<List>(other.data_).sequence;
  if (is_tuple()) return std::get<Tuple>(data_).sequence == std::get<Tuple>(other.data_).sequence;
  if (is_dict()) return &dict() == &other.dict();
  if (is_object()) return object() == other.object();
  return *this == other;
}

const Value* Dict::Find(const Value& key) const {
  if (!key.hashable()) return nullptr;
  if (!index_.empty()) {
    const auto it = index_.find(key);
    return it == index_.end() ? nullptr : &entries_[it->second].second;
  }
  for (const auto& [k, value] : entries_) {
    if (k == key) return &value;
  }
  return nullptr;
}

const Value* Dict::Find(std::string_view key) const {
  if (!index_.empty()) return Find(Value::String(std::string(key)));
  for (const auto& [k, value] : entries_) {
    if (k.is_string() && k.string() == key) return &value;
  }
  return nullptr;
}

void Dict::Set(Value key, Value value) {
  depth_ = std::max({depth_, key.depth() + 1, value.depth() + 1});
  if (const Value* found = Find(key)) {
    entries_[static_cast<size_t>(std::find_if(entries_.begin(), entries_.end(),
                                              [&](const auto& e) { return &e.second == found; }) -
                                 entries_.begin())]
        .second = std::move(value);
    return;
  }
  entries_.emplace_back(std::move(key), std::move(value));
  if (entries_.size() < kIndexed) return;
  if (index_.empty()) {
    for (size_t i = 0; i < entries_.size(); ++i) index_[entries_[i].first] = i;
  } else {
    index_[entries_.back().first] = entries_.size() - 1;
  }
}

std::string Object::Repr() const { return absl::StrCat("<", ToAbsl(type_name()), ">"); }

absl::StatusOr<Value> Object::Call(Runtime&, Arguments) {
  return TypeError(absl::StrCat("'", ToAbsl(type_name()), "' object is not callable"));
}

absl::StatusOr<std::optional<Value>> Object::Attribute(std::string_view) { return std::nullopt; }

std::optional<Value> Object::Item(const Value&) { return std::nullopt; }

absl::StatusOr<std::unique_ptr<Iterator>> Iterate(const Value& value) {
  if (value.is_sequence()) return MakeIterator(value, NextItem);
  if (value.is_dict()) return MakeIterator(value, NextKey);
  if (value.is_string()) return MakeIterator(value, NextCharacter);
  if (value.is_undefined()) return MakeIterator(Value::MakeList({}), NextItem);
  if (value.is_object()) {
    if (auto iterator = value.object()->Iterate()) return iterator;
  }
  return TypeError(absl::StrCat("'", ToAbsl(value.type_name()), "' object is not iterable"));
}

absl::StatusOr<int64_t> Length(const Value& value) {
  if (value.is_undefined()) return 0;
  if (value.is_string()) return static_cast<int64_t>(CountCodePoints(value.string()));
  if (value.is_sequence()) return static_cast<int64_t>(value.items().size());
  if (value.is_dict()) return static_cast<int64_t>(value.dict().size());
  if (value.is_object()) {
    if (const std::optional<int64_t> length = value.object()->Length()) return *length;
  }
  return TypeError(absl::StrCat("object of type '", ToAbsl(value.type_name()), "' has no len()"));
}

bool HasLength(const Value& value) {
  if (value.is_object()) return value.object()->Length().has_value();
  return value.is_undefined() || value.is_string() || value.is_sequence() || value.is_dict();
}

bool IsIterable(const Value& value) {
  if (value.is_object()) return value.object()->Iterate() != nullptr;
  return HasLength(value);
}

absl::Status TypeError(std::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat("TypeError: ", ToAbsl(message)));
}

absl::Status ValueError(std::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat("ValueError: ", ToAbsl(message)));
}

absl::Status UnhashableError(const Value& value) {
  return TypeError(absl::StrCat("unhashable type: '", ToAbsl(value.type_name()), "'"));
}

absl::Status UndefinedError(const Value& undefined) {
  return absl::InvalidArgumentError(undefined.undefined_message());
}

}  // namespace penstock::jinja
