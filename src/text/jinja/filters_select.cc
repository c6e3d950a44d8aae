// Filters that walk items one by one as they are asked for: map, select, reject and their kin.
#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/jinja/attribute_path.h"
#include "text/jinja/filters.h"
#include "text/jinja/format.h"
#include "text/jinja/objects.h"

namespace penstock::jinja {
namespace {

using Result = absl::StatusOr<Value>;

// Starts at the first item asked for, as a generator does; a false source has none.
class LazyIterator : public Iterator {
 public:
  LazyIterator(Runtime& runtime, Value source, Arguments arguments)
      : runtime_(runtime), source_(std::move(source)), arguments_(std::move(arguments)) {}

 protected:
  absl::StatusOr<std::optional<Value>> NextItem() {
    if (!source_.Truthy()) return std::nullopt;
    if (items_ == nullptr) {
      ASSIGN_OR_RETURN(items_, Iterate(source_));
    }
    RETURN_IF_ERROR(runtime_.Charge(1));
    return items_->Next();
  }

  Runtime& runtime_;
  Value source_;
  Arguments arguments_;

 private:
  std::unique_ptr<Iterator> items_;
};

class MapIterator final : public LazyIterator {
 public:
  using LazyIterator::LazyIterator;
  absl::StatusOr<std::optional<Value>> Next() override {
    if (!source_.Truthy()) return std::nullopt;
    RETURN_IF_ERROR(Prepare());
    ASSIGN_OR_RETURN(const std::optional<Value> item, NextItem());
    if (!item) return std::nullopt;
    Value mapped;
    if (path_) {
      ASSIGN_OR_RETURN(mapped, path_->Get(*item, default_));
    } else {
      ASSIGN_OR_RETURN(mapped, runtime_.ApplyFilter(filter_, *item, arguments_));
    }
    return mapped;
  }

 private:
  absl::Status Prepare() {
    if (std::exchange(prepared_, true)) return absl::OkStatus();
    if (!arguments_.positional.empty()) {
      filter_ = ToText(arguments_.positional.front());
      arguments_.positional.erase(arguments_.positional.begin());
      return absl::OkStatus();
    }
    for (const auto& [name, value] : arguments_.named) {
      if (name == "attribute") path_.emplace(value);
      if (name == "default") default_ = value;
    }
    if (!path_) return absl::InvalidArgumentError("map requires a filter argument");
    for (const auto& [name, value] : arguments_.named) {
      if (name != "attribute" && name != "default") {
        return absl::InvalidArgumentError(absl::StrCat("Unexpected keyword argument '", name, "'"));
      }
    }
    return absl::OkStatus();
  }

  bool prepared_ = false;
  std::string filter_;
  std::optional<AttributePath> path_;
  std::optional<Value> default_;
};

template <bool keep, bool by_attribute>
class SelectIterator final : public LazyIterator {
 public:
  using LazyIterator::LazyIterator;
  absl::StatusOr<std::optional<Value>> Next() override {
    if (!source_.Truthy()) return std::nullopt;
    RETURN_IF_ERROR(Prepare());
    while (true) {
      ASSIGN_OR_RETURN(std::optional<Value> item, NextItem());
      if (!item) return std::nullopt;
      ASSIGN_OR_RETURN(const Value tested, path_ ? path_->Get(*item) : Result(*item));
      bool holds = tested.Truthy();
      if (!test_.empty()) {
        ASSIGN_OR_RETURN(holds, runtime_.ApplyTest(test_, tested, arguments_));
      }
      if (holds == keep) return item;
    }
  }

 private:
  absl::Status Prepare() {
    if (std::exchange(prepared_, true)) return absl::OkStatus();
    std::vector<Value>& positional = arguments_.positional;
    if (by_attribute) {
      if (positional.empty())
        return absl::InvalidArgumentError("Missing parameter for attribute name");
      path_.emplace(positional.front());
      positional.erase(positional.begin());
    }
    if (positional.empty()) return absl::OkStatus();
    test_ = ToText(positional.front());
    positional.erase(positional.begin());
    return absl::OkStatus();
  }

  bool prepared_ = false;
  std::string test_;  // empty: the value's truth
  std::optional<AttributePath> path_;
};

template <class Walk>
Result Lazy(Runtime& runtime, const Value& value, const Arguments& arguments) {
  int depth = value.depth();
  for (const Value& argument : arguments.positional) depth = std::max(depth, argument.depth());
  for (const auto& [name, argument] : arguments.named) depth = std::max(depth, argument.depth());
  if (depth >= kMaxValueDepth) return absl::ResourceExhaustedError("a value is nested too deeply");
  return Value::MakeObject(
      std::make_shared<Generator>(std::make_shared<Walk>(runtime, value, arguments), depth));
}

}  // namespace

const FilterTable& SelectFilters() {
  static const auto& table = *new FilterTable{
      {"map", Lazy<MapIterator>},
      {"select", Lazy<SelectIterator<true, false>>},
      {"reject", Lazy<SelectIterator<false, false>>},
      {"selectattr", Lazy<SelectIterator<true, true>>},
      {"rejectattr", Lazy<SelectIterator<false, true>>},
  };
  return table;
}

}  // namespace penstock::jinja
