// Methods of dicts, lists and tuples.
#include <algorithm>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "text/jinja/format.h"
#include "text/jinja/methods.h"
#include "text/jinja/objects.h"

namespace penstock::jinja {
namespace {

using Result = absl::StatusOr<Value>;

Result DictGet(Runtime&, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("get", {"key", "default"}, 1, arguments));
  if (!bound[0]->hashable()) return UnhashableError(*bound[0]);
  const Value* value = self.dict().Find(*bound[0]);
  return value != nullptr ? *value : bound[1].value_or(Value());
}

template <DictView::Kind kind>
Result DictWalk(Runtime&, const Value& self, const Arguments& arguments) {
  if (!arguments.positional.empty() || !arguments.named.empty())
    return TypeError("the method takes no arguments");
  return Value::MakeObject(std::make_shared<DictView>(self, kind));
}

Result DictCopy(Runtime&, const Value& self, const Arguments&) { return self; }

Result ListCount(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("count", {"value"}, 1, arguments));
  RETURN_IF_ERROR(runtime.ChargeItems(self.items().size()));
  return Value::Int(std::count(self.items().begin(), self.items().end(), *bound[0]));
}

Result ListIndex(Runtime& runtime, const Value& self, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const auto bound,
                   BindArguments("index", {"value", "start", "stop"}, 1, arguments));
  const auto size = static_cast<int64_t>(self.items().size());
  ASSIGN_OR_RETURN(int64_t start, IntegerOr(bound[1], 0));
  ASSIGN_OR_RETURN(int64_t stop, IntegerOr(bound[2], size));
  start = std::clamp<int64_t>(start < 0 ? start + size : start, 0, size);
  stop = std::clamp<int64_t>(stop < 0 ? stop + size : stop, 0, size);
  RETURN_IF_ERROR(runtime.ChargeItems(self.items().size()));
  for (int64_t i = start; i < stop; ++i) {
    if (self.items()[static_cast<size_t>(i)] == *bound[0]) return Value::Int(i);
  }
  return ValueError(absl::StrCat(Repr(*bound[0]), " is not in list"));
}

Result ListCopy(Runtime&, const Value& self, const Arguments&) { return self; }

}  // namespace

MethodFunction FindDictMethod(std::string_view name) {
  static const auto& table = *new absl::flat_hash_map<std::string_view, MethodFunction>{
      {"get", DictGet},
      {"items", DictWalk<DictView::Kind::kItems>},
      {"keys", DictWalk<DictView::Kind::kKeys>},
      {"values", DictWalk<DictView::Kind::kValues>},
      {"copy", DictCopy},
  };
  const auto it = table.find(name);
  return it == table.end() ? nullptr : it->second;
}

MethodFunction FindListMethod(std::string_view name) {
  static const auto& table = *new absl::flat_hash_map<std::string_view, MethodFunction>{
      {"count", ListCount}, {"index", ListIndex}, {"copy", ListCopy}};
  const auto it = table.find(name);
  return it == table.end() ? nullptr : it->second;
}

}  // namespace penstock::jinja
