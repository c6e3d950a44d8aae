// The objects of a template that are not plain data and need no syntax tree.
// Own what they walk or hold. Must not know syntax.
// Threads: confined to one rendering.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace penstock::jinja {

/// A built-in function or a method bound to its value.
class Function final : public Object {
 public:
  using Body = std::function<absl::StatusOr<Value>(Runtime&, const Arguments&)>;
  Function(std::string name, Body body, int depth = 0)
      : name_(std::move(name)), body_(std::move(body)), depth_(depth) {}
  std::string_view type_name() const override { return "builtin_function_or_method"; }
  bool callable() const override { return true; }
  int depth() const override { return depth_; }
  absl::StatusOr<Value> Call(Runtime& runtime, Arguments arguments) override {
    return body_(runtime, arguments);
  }

 private:
  std::string name_;
  Body body_;
  int depth_;
};

/// Python's generator: items come as they are asked for, once.
class Generator final : public Object {
 public:
  Generator(std::shared_ptr<Iterator> items, int source_depth)
      : items_(std::move(items)), depth_(source_depth + 1) {}
  std::string_view type_name() const override { return "generator"; }
  int depth() const override { return depth_; }
  std::unique_ptr<Iterator> Iterate() override;

 private:
  std::shared_ptr<Iterator> items_;
  int depth_;
};

/// Python's range.
class Range final : public Object {
 public:
  Range(int64_t start, int64_t stop, int64_t step) : start_(start), stop_(stop), step_(step) {}
  std::string_view type_name() const override { return "range"; }
  std::string Repr() const override;
  bool Truthy() const override { return size() != 0; }
  bool has_items() const override { return true; }
  std::optional<Value> Item(const Value& key) override;
  std::optional<int64_t> Length() const override { return size(); }
  std::unique_ptr<Iterator> Iterate() override;
  bool Equals(const Object& other) const override;
  int64_t size() const;
  int64_t at(int64_t index) const { return start_ + index * step_; }

 private:
  int64_t start_, stop_, step_;
};

/// A whole number of the context beyond 64 bits with a sign, as schemas give for bounds: it is
/// written, not reckoned with.
class WideInteger final : public Object {
 public:
  explicit WideInteger(uint64_t number) : number_(number) {}
  std::string_view type_name() const override { return "int"; }
  std::string Repr() const override;
  bool Equals(const Object& other) const override;

 private:
  uint64_t number_;
};

/// dict.keys(), .values(), .items()
class DictView final : public Object {
 public:
  enum class Kind { kKeys, kValues, kItems };
  DictView(Value dict, Kind kind) : dict_(std::move(dict)), kind_(kind) {}
  std::string_view type_name() const override;
  std::string Repr() const override;
  int depth() const override { return dict_.depth() + 1; }
  bool Truthy() const override { return dict_.dict().size() != 0; }
  std::optional<int64_t> Length() const override {
    return static_cast<int64_t>(dict_.dict().size());
  }
  std::unique_ptr<Iterator> Iterate() override;

 private:
  Value ItemAt(size_t index) const;
  Value dict_;
  Kind kind_;
};

/// namespace(): the one thing that a template can change. Rendering keeps them all and empties them
/// at its end, since one can hold itself.
class Namespace final : public Object {
 public:
  explicit Namespace(Dict members) : members_(std::move(members)) {}
  std::string_view type_name() const override { return "Namespace"; }
  std::string Repr() const override;
  absl::StatusOr<std::optional<Value>> Attribute(std::string_view name) override;
  void Set(std::string name, Value value) {
    members_.Set(Value::String(std::move(name)), std::move(value));
  }
  void Clear() { members_ = Dict(); }

 private:
  Dict members_;
};

/// The functions that every template can call: range, dict, joiner, cycler, raise_exception,
/// strftime_now.
/// namespace() is the evaluator's.
const std::vector<std::pair<std::string, Value>>& BuiltinFunctions();

}  // namespace penstock::jinja
