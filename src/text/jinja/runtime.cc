#include "text/jinja/runtime.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/jinja/filters.h"
#include "text/jinja/tests.h"

namespace penstock::jinja {

absl::StatusOr<Value> Runtime::ApplyFilter(std::string_view name, const Value& value,
                                           const Arguments& arguments) {
  const FilterFunction filter = FindFilter(name);
  if (filter == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("No filter named '", ToAbsl(name), "' found."));
  }
  RETURN_IF_ERROR(Charge(1));
  return filter(*this, value, arguments);
}

absl::StatusOr<bool> Runtime::ApplyTest(std::string_view name, const Value& value,
                                        const Arguments& arguments) {
  const TestFunction test = FindTest(name);
  if (test == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("No test named '", ToAbsl(name), "' found."));
  }
  RETURN_IF_ERROR(Charge(1));
  return test(*this, value, arguments);
}

absl::Status Runtime::StepsExhausted() const {
  return absl::ResourceExhaustedError(
      absl::StrCat("the template takes more than ", limits_.max_steps, " steps"));
}

absl::Status Runtime::ChargeText(uint64_t bytes) {
  if (bytes > static_cast<uint64_t>(limits_.max_text_bytes)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the template makes a text of more than ", limits_.max_text_bytes, " bytes"));
  }
  return Charge(static_cast<int64_t>(bytes >> 8));
}

absl::Status Runtime::ChargeItems(uint64_t items) {
  if (items > static_cast<uint64_t>(limits_.max_steps)) return StepsExhausted();
  return Charge(static_cast<int64_t>(items));
}

absl::StatusOr<std::vector<Value>> CollectItems(Runtime& runtime, const Value& value) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Iterator> iterator, Iterate(value));
  std::vector<Value> items;
  while (true) {
    ASSIGN_OR_RETURN(std::optional<Value> item, iterator->Next());
    if (!item) return items;
    RETURN_IF_ERROR(runtime.Charge(1));
    items.push_back(*std::move(item));
  }
}

absl::StatusOr<std::vector<std::optional<Value>>> BindArguments(
    std::string_view function, const std::vector<std::string_view>& parameters, size_t num_required,
    const Arguments& arguments) {
  const std::string name = absl::StrCat(ToAbsl(function), "()");
  if (arguments.positional.size() > parameters.size()) {
    return TypeError(absl::StrCat(name, " takes at most ", parameters.size(), " arguments (",
                                  arguments.positional.size(), " given)"));
  }
  std::vector<std::optional<Value>> bound(parameters.size());
  for (size_t i = 0; i < arguments.positional.size(); ++i) bound[i] = arguments.positional[i];
  for (const auto& [key, value] : arguments.named) {
    const auto it = std::find(parameters.begin(), parameters.end(), key);
    if (it == parameters.end()) {
      return TypeError(absl::StrCat(name, " got an unexpected keyword argument '", key, "'"));
    }
    std::optional<Value>& slot = bound[it - parameters.begin()];
    if (slot) return TypeError(absl::StrCat(name, " got multiple values for argument '", key, "'"));
    slot = value;
  }
  for (size_t i = 0; i < num_required; ++i) {
    if (!bound[i])
      return TypeError(
          absl::StrCat(name, " missing required argument '", ToAbsl(parameters[i]), "'"));
  }
  return bound;
}

absl::StatusOr<int64_t> IntegerOr(const std::optional<Value>& argument, int64_t absent) {
  if (!argument) return absent;
  if (argument->is_undefined()) return UndefinedError(*argument);
  if (!argument->is_integral()) {
    return TypeError(absl::StrCat("'", ToAbsl(argument->type_name()),
                                  "' object cannot be interpreted as an integer"));
  }
  return argument->integer();
}

absl::StatusOr<std::string> TextOr(const std::optional<Value>& argument, std::string_view absent) {
  if (!argument) return std::string(absent);
  if (argument->is_undefined()) return UndefinedError(*argument);
  if (!argument->is_string()) {
    return TypeError(absl::StrCat("expected str, not '", ToAbsl(argument->type_name()), "'"));
  }
  return argument->string();
}

bool TruthOr(const std::optional<Value>& argument, bool absent) {
  return argument ? argument->Truthy() : absent;
}

}  // namespace penstock::jinja
