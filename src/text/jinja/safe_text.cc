#include "text/jinja/safe_text.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "text/jinja/text_functions.h"

namespace penstock::jinja {
namespace {

// Methods that give something other than text of their own.
constexpr std::array<std::string_view, 22> kWrapped = {
    "capitalize", "title",      "lower",     "upper",        "replace",      "ljust",
    "rjust",      "lstrip",     "rstrip",    "center",       "strip",        "swapcase",
    "zfill",      "expandtabs", "casefold",  "removeprefix", "removesuffix", "split",
    "rsplit",     "splitlines", "partition", "rpartition"};

Value MakeSafe(const Value& value) {
  if (value.is_string()) return Value::Safe(value.string());
  if (!value.is_sequence()) return value;
  std::vector<Value> items;
  for (const Value& item : value.items()) items.push_back(MakeSafe(item));
  return value.is_list() ? Value::MakeList(std::move(items)) : Value::MakeTuple(std::move(items));
}

}  // namespace

Value EscapeArgument(const Value& value) {
  if (value.is_safe()) return value;
  if (value.is_string()) return Value::Safe(EscapeHtml(value.string()));
  if (value.is_sequence()) {
    std::vector<Value> items;
    for (const Value& item : value.items()) items.push_back(EscapeArgument(item));
    return value.is_list() ? Value::MakeList(std::move(items)) : Value::MakeTuple(std::move(items));
  }
  if (!value.is_dict()) return value;
  Dict dict;
  for (const auto& [key, member] : value.dict().entries()) dict.Set(key, EscapeArgument(member));
  return Value::MakeDict(std::move(dict));
}

absl::StatusOr<Value> CallSafeTextMethod(Runtime& runtime, const Value& self, std::string_view name,
                                         const Arguments& arguments) {
  const bool joins = name == "join" || name == "format";
  if (!joins && std::find(kWrapped.begin(), kWrapped.end(), name) == kWrapped.end()) {
    return FindStringMethod(name)(runtime, self, arguments);
  }
  Arguments escaped = arguments;
  if (name == "join" && escaped.positional.size() == 1) {
    ASSIGN_OR_RETURN(std::vector<Value> items, CollectItems(runtime, escaped.positional[0]));
    escaped.positional[0] = Value::MakeList(std::move(items));
  }
  for (Value& argument : escaped.positional) argument = EscapeArgument(argument);
  for (auto& [key, argument] : escaped.named) argument = EscapeArgument(argument);
  ASSIGN_OR_RETURN(const Value result, FindStringMethod(name)(runtime, self, escaped));
  return MakeSafe(result);
}

}  // namespace penstock::jinja
