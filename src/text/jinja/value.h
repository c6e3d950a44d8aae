// The values of a template: Python's, as far as templates see them.
// Owns its data by reference counts; containers do not change once they are shared.
// Must not know syntax or rendering. Values nest at most kMaxValueDepth deep where they are stored.
// Threads: value; one rendering is confined to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"

namespace penstock::jinja {

class Dict;
class Object;
class Value;

inline constexpr int kMaxValueDepth = 100;

/// What a missing name or member gives: prints as nothing, and fails with `message` when more is
/// asked of it.
struct Undefined {
  std::shared_ptr<const std::string> message;
};
struct None {};

/// A list or tuple.
struct Sequence {
  std::vector<Value> items;
  int depth = 1;
  bool is_group = false;
};

class Value {
 public:
  using StringPtr = std::shared_ptr<const std::string>;
  struct List {
    std::shared_ptr<const Sequence> sequence;
  };
  struct Tuple {
    std::shared_ptr<const Sequence> sequence;
  };

  Value() : data_(None{}) {}
  static Value MakeUndefined(std::string message);
  static Value Bool(bool v) { return Value(Data(v)); }
  static Value Int(int64_t v) { return Value(Data(v)); }
  static Value Float(double v) { return Value(Data(v)); }
  static Value String(std::string v);
  /// Text that counts as HTML already: other text is escaped before it is added (Python's Markup).
  static Value Safe(std::string v);
  /// Text, safe where `like` is.
  static Value StringLike(const Value& like, std::string v) {
    return like.is_safe() ? Safe(std::move(v)) : String(std::move(v));
  }
  static Value MakeList(std::vector<Value> items);
  static Value MakeTuple(std::vector<Value> items);
  /// What groupby makes: a tuple of `key` and `items` whose parts have the names grouper and list.
  static Value MakeGroup(Value key, Value items);
  static Value MakeDict(Dict dict);
  static Value MakeObject(std::shared_ptr<Object> object) { return Value(Data(std::move(object))); }

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_int() const { return std::holds_alternative<int64_t>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_integral() const { return is_int() || is_bool(); }
  bool is_number() const { return is_integral() || is_float(); }
  bool is_string() const { return std::holds_alternative<StringPtr>(data_) || is_safe(); }
  bool is_safe() const { return std::holds_alternative<SafeText>(data_); }
  bool is_list() const { return std::holds_alternative<List>(data_); }
  bool is_tuple() const { return std::holds_alternative<Tuple>(data_); }
  bool is_sequence() const { return is_list() || is_tuple(); }
  bool is_group() const { return is_tuple() && std::get<Tuple>(data_).sequence->is_group; }
  bool is_dict() const { return std::holds_alternative<std::shared_ptr<const Dict>>(data_); }
  bool is_object() const { return std::holds_alternative<std::shared_ptr<Object>>(data_); }

  // Each needs the kind it names.
  const std::string& undefined_message() const { return *std::get<Undefined>(data_).message; }
  int64_t integer() const { return is_bool() ? std::get<bool>(data_) : std::get<int64_t>(data_); }
  double number() const {
    return is_float() ? std::get<double>(data_) : static_cast<double>(integer());
  }
  const std::string& string() const {
    return is_safe() ? *std::get<SafeText>(data_).text : *std::get<StringPtr>(data_);
  }
  const std::vector<Value>& items() const;  // of a list or tuple
  const Dict& dict() const { return *std::get<std::shared_ptr<const Dict>>(data_); }
  const std::shared_ptr<Object>& object() const { return std::get<std::shared_ptr<Object>>(data_); }
  /// The object as a T, or nullptr.
  template <class T>
  T* As() const {
    return is_object() ? dynamic_cast<T*>(object().get()) : nullptr;
  }

  bool Truthy() const;
  /// How deep containers nest in it: 0 for plain values.
  int depth() const;
  /// Python's name of the type, e.g. "NoneType".
  std::string_view type_name() const;
  /// Python's ==.
  friend bool operator==(const Value& a, const Value& b);
  bool hashable() const;
  template <class H>
  friend H AbslHashValue(H h, const Value& value) {
    return H::combine(std::move(h), value.HashCode());
  }
  /// The same object, as Python's `is`.
  bool SameAs(const Value& other) const;

 private:
  struct SafeText {
    StringPtr text;
  };
  using Data = std::variant<None, Undefined, bool, int64_t, double, StringPtr, SafeText, List,
                            Tuple, std::shared_ptr<const Dict>, std::shared_ptr<Object>>;
  explicit Value(Data data) : data_(std::move(data)) {}
  size_t HashCode() const;
  Data data_;
};

/// Keeps the order in which keys came, as Python's.
class Dict {
 public:
  const Value* Find(const Value& key) const;
  const Value* Find(std::string_view key) const;
  /// The key must be hashable.
  void Set(Value key, Value value);
  const std::vector<std::pair<Value, Value>>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }
  int depth() const { return depth_; }

 private:
  std::vector<std::pair<Value, Value>> entries_;
  absl::flat_hash_map<Value, size_t> index_;  // used from kIndexed entries on
  int depth_ = 1;
};

/// A one-way walk over items.
class Iterator {
 public:
  virtual ~Iterator() = default;
  /// nullopt at the end.
  virtual absl::StatusOr<std::optional<Value>> Next() = 0;
};

/// Positional and named arguments of a call.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

class Runtime;

/// Everything that is not plain data: functions, macros, ranges, generators, namespaces, loops.
class Object {
 public:
  virtual ~Object() = default;
  virtual std::string_view type_name() const = 0;
  virtual std::string Repr() const;
  virtual int depth() const { return 0; }
  virtual bool Truthy() const { return true; }
  virtual bool callable() const { return false; }
  virtual absl::StatusOr<Value> Call(Runtime& runtime, Arguments arguments);
  /// nullopt: there is no such attribute.
  virtual absl::StatusOr<std::optional<Value>> Attribute(std::string_view name);
  /// nullopt: there is no such item. Called only where `has_items()`.
  virtual std::optional<Value> Item(const Value& key);
  virtual bool has_items() const { return false; }
  virtual std::optional<int64_t> Length() const { return std::nullopt; }
  /// nullptr: not iterable.
  virtual std::unique_ptr<Iterator> Iterate() { return nullptr; }
  virtual bool Equals(const Object& other) const { return this == &other; }
};

/// TypeError for what is not iterable; an undefined value is empty.
absl::StatusOr<std::unique_ptr<Iterator>> Iterate(const Value& value);
/// len(): TypeError for what has none.
absl::StatusOr<int64_t> Length(const Value& value);
bool HasLength(const Value& value);
bool IsIterable(const Value& value);

/// Errors as Python names them.
absl::Status TypeError(std::string_view message);
absl::Status ValueError(std::string_view message);
absl::Status UndefinedError(const Value& undefined);
absl::Status UnhashableError(const Value& value);

}  // namespace penstock::jinja
