#include "text/jinja/objects.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "text/jinja/format.h"

namespace penstock::jinja {
namespace {

// Walks `count` items that `at(index)` makes.
template <class At>
class IndexIterator final : public Iterator {
 public:
  IndexIterator(int64_t count, At at) : count_(count), at_(std::move(at)) {}
  absl::StatusOr<std::optional<Value>> Next() override {
    if (next_ >= count_) return std::nullopt;
    return at_(next_++);
  }

 private:
  int64_t next_ = 0;
  int64_t count_;
  At at_;
};

template <class At>
std::unique_ptr<Iterator> Walk(int64_t count, At at) {
  return std::make_unique<IndexIterator<At>>(count, std::move(at));
}

class SharedIterator final : public Iterator {
 public:
  explicit SharedIterator(std::shared_ptr<Iterator> items) : items_(std::move(items)) {}
  absl::StatusOr<std::optional<Value>> Next() override { return items_->Next(); }

 private:
  std::shared_ptr<Iterator> items_;
};

class Joiner final : public Object {
 public:
  explicit Joiner(std::string separator) : separator_(std::move(separator)) {}
  std::string_view type_name() const override { return "Joiner"; }
  bool callable() const override { return true; }
  absl::StatusOr<Value> Call(Runtime&, Arguments) override {
    return Value::String(std::exchange(used_, true) ? separator_ : "");
  }

 private:
  std::string separator_;
  bool used_ = false;
};

class Cycler final : public Object, public std::enable_shared_from_this<Cycler> {
 public:
  explicit Cycler(std::vector<Value> items) : items_(std::move(items)) {
    for (const Value& item : items_) depth_ = std::max(depth_, item.depth() + 1);
  }
  std::string_view type_name() const override { return "Cycler"; }
  int depth() const override { return depth_; }
  absl::StatusOr<std::optional<Value>> Attribute(std::string_view name) override {
    if (name == "current") return items_[position_];
    if (name != "next" && name != "reset") return std::nullopt;
    const bool reset = name == "reset";
    const auto step = [self = shared_from_this(), reset](
                          Runtime&, const Arguments&) -> absl::StatusOr<Value> {
      if (reset) {
        self->position_ = 0;
        return Value();
      }
      const Value item = self->items_[self->position_];
      self->position_ = (self->position_ + 1) % self->items_.size();
      return item;
    };
    return Value::MakeObject(std::make_shared<Function>(std::string(name), step, depth_ + 1));
  }

 private:
  std::vector<Value> items_;
  size_t position_ = 0;
  int depth_ = 1;
};

absl::StatusOr<Value> MakeRange(Runtime& runtime, const Arguments& arguments) {
  if (arguments.positional.empty() || arguments.positional.size() > 3 || !arguments.named.empty()) {
    return TypeError("range expected 1 to 3 arguments");
  }
  int64_t numbers[3] = {0, 0, 1};
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    ASSIGN_OR_RETURN(numbers[i], IntegerOr(arguments.positional[i], 0));
  }
  if (arguments.positional.size() == 1) std::swap(numbers[0], numbers[1]);
  constexpr int64_t kFar = int64_t{1} << 60;
  if (numbers[2] == 0) return ValueError("range() arg 3 must not be zero");
  for (const int64_t number : numbers) {
    if (number > kFar || number < -kFar)
      return absl::InvalidArgumentError("OverflowError: range() is too big");
  }
  auto range = std::make_shared<Range>(numbers[0], numbers[1], numbers[2]);
  if (range->size() > runtime.limits().max_range) {
    return absl::InvalidArgumentError(
        absl::StrCat("OverflowError: Range too big. Ranges are blocked above ",
                     runtime.limits().max_range, "."));
  }
  return Value::MakeObject(std::move(range));
}

absl::StatusOr<Value> MakeDictOf(Runtime&, const Arguments& arguments) {
  Dict dict;
  if (arguments.positional.size() > 1) return TypeError("dict expected at most 1 argument");
  if (!arguments.positional.empty()) {
    if (!arguments.positional[0].is_dict()) return TypeError("dict(): expected a mapping");
    dict = arguments.positional[0].dict();
  }
  for (const auto& [key, value] : arguments.named) dict.Set(Value::String(key), value);
  return Value::MakeDict(std::move(dict));
}

absl::StatusOr<Value> MakeJoiner(Runtime&, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("joiner", {"sep"}, 0, arguments));
  ASSIGN_OR_RETURN(std::string separator, TextOr(bound[0], ", "));
  return Value::MakeObject(std::make_shared<Joiner>(std::move(separator)));
}

absl::StatusOr<Value> MakeCycler(Runtime&, const Arguments& arguments) {
  if (arguments.positional.empty()) return TypeError("at least one item has to be provided");
  return Value::MakeObject(std::make_shared<Cycler>(arguments.positional));
}

absl::StatusOr<Value> RaiseException(Runtime&, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("raise_exception", {"message"}, 1, arguments));
  return absl::InvalidArgumentError(ToText(*bound[0]));
}

absl::StatusOr<Value> StrftimeNow(Runtime& runtime, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("strftime_now", {"format"}, 1, arguments));
  ASSIGN_OR_RETURN(const std::string format, TextOr(bound[0], ""));
  ASSIGN_OR_RETURN(std::string text, FormatTime(format, runtime.now()));
  return Value::String(std::move(text));
}

}  // namespace

std::unique_ptr<Iterator> Generator::Iterate() { return std::make_unique<SharedIterator>(items_); }

int64_t Range::size() const {
  const int64_t span = step_ > 0 ? stop_ - start_ : start_ - stop_;
  const int64_t step = step_ > 0 ? step_ : -step_;
  return span <= 0 ? 0 : (span - 1) / step + 1;
}

std::string Range::Repr() const {
  return step_ == 1 ? absl::StrCat("range(", start_, ", ", stop_, ")")
                    : absl::StrCat("range(", start_, ", ", stop_, ", ", step_, ")");
}

std::optional<Value> Range::Item(const Value& key) {
  if (!key.is_integral()) return std::nullopt;
  const int64_t index = key.integer() < 0 ? key.integer() + size() : key.integer();
  if (index < 0 || index >= size()) return std::nullopt;
  return Value::Int(at(index));
}

std::unique_ptr<Iterator> Range::Iterate() {
  return Walk(size(), [copy = *this](int64_t i) { return Value::Int(copy.at(i)); });
}

bool Range::Equals(const Object& other) const {
  const auto* range = dynamic_cast<const Range*>(&other);
  if (range == nullptr || range->size() != size()) return false;
  return size() == 0 || (start_ == range->start_ && (size() == 1 || step_ == range->step_));
}

std::string WideInteger::Repr() const { return absl::StrCat(number_); }

bool WideInteger::Equals(const Object& other) const {
  const auto* wide = dynamic_cast<const WideInteger*>(&other);
  return wide != nullptr && wide->number_ == number_;
}

std::string_view DictView::type_name() const {
  return kind_ == Kind::kKeys ? "dict_keys" : kind_ == Kind::kValues ? "dict_values" : "dict_items";
}

Value DictView::ItemAt(size_t index) const {
  const auto& [key, value] = dict_.dict().entries()[index];
  if (kind_ == Kind::kItems) return Value::MakeTuple({key, value});
  return kind_ == Kind::kKeys ? key : value;
}

std::string DictView::Repr() const {
  std::vector<Value> items;
  for (size_t i = 0; i < dict_.dict().size(); ++i) items.push_back(ItemAt(i));
  return absl::StrCat(absl::string_view(type_name().data(), type_name().size()), "(",
                      jinja::Repr(Value::MakeList(std::move(items))), ")");
}

std::unique_ptr<Iterator> DictView::Iterate() {
  return Walk(static_cast<int64_t>(dict_.dict().size()),
              [copy = *this](int64_t i) { return copy.ItemAt(static_cast<size_t>(i)); });
}

std::string Namespace::Repr() const { return "<Namespace>"; }

absl::StatusOr<std::optional<Value>> Namespace::Attribute(std::string_view name) {
  const Value* value = members_.Find(name);
  return value == nullptr ? std::nullopt : std::optional<Value>(*value);
}

const std::vector<std::pair<std::string, Value>>& BuiltinFunctions() {
  static const auto& functions = *new std::vector<std::pair<std::string, Value>>([] {
    std::vector<std::pair<std::string, Value>> list;
    const auto add = [&list](const char* name, Function::Body body) {
      list.emplace_back(name, Value::MakeObject(std::make_shared<Function>(name, std::move(body))));
    };
    add("range", MakeRange);
    add("dict", MakeDictOf);
    add("joiner", MakeJoiner);
    add("cycler", MakeCycler);
    add("raise_exception", RaiseException);
    add("strftime_now", StrftimeNow);
    return list;
  }());
  return functions;
}

}  // namespace penstock::jinja
