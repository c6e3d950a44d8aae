// Filters of lists and dicts as a whole.
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "text/jinja/attribute_path.h"
#include "text/jinja/filters.h"
#include "text/jinja/format.h"
#include "text/jinja/objects.h"
#include "text/jinja/operators.h"

namespace penstock::jinja {
namespace {

using Result = absl::StatusOr<Value>;
using Bound = std::vector<std::optional<Value>>;

struct Keyed {
  Value key;
  Value value;
};

// A stable merge sort by key that can fail, since not all values have an order.
absl::Status SortByKey(Runtime& runtime, bool reverse, std::vector<Keyed>* items) {
  std::vector<Keyed> merged(items->size());
  for (size_t width = 1; width < items->size(); width *= 2) {
    RETURN_IF_ERROR(runtime.ChargeItems(items->size()));
    for (size_t begin = 0; begin < items->size(); begin += 2 * width) {
      const size_t middle = std::min(begin + width, items->size());
      const size_t end = std::min(begin + 2 * width, items->size());
      size_t left = begin;
      size_t right = middle;
      for (size_t out = begin; out < end; ++out) {
        bool take_right = left >= middle;
        if (!take_right && right < end) {
          ASSIGN_OR_RETURN(const int order, Order((*items)[right].key, (*items)[left].key, "<"));
          take_right = order == (reverse ? 1 : -1);
        }
        merged[out] = std::move((*items)[take_right ? right++ : left++]);
      }
    }
    std::swap(*items, merged);
  }
  return absl::OkStatus();
}

Value ValuesOf(std::vector<Keyed> items) {
  std::vector<Value> values;
  values.reserve(items.size());
  for (Keyed& item : items) values.push_back(std::move(item.value));
  return Value::MakeList(std::move(values));
}

Value NoneOr(const std::optional<Value>& argument) { return argument.value_or(Value()); }

// The keys of one item: one per attribute of a list with commas.
absl::StatusOr<Value> SortKey(const std::vector<AttributePath>& paths, bool case_sensitive,
                              const Value& item) {
  std::vector<Value> keys;
  for (const AttributePath& path : paths) {
    ASSIGN_OR_RETURN(Value key, path.Get(item));
    keys.push_back(case_sensitive ? std::move(key) : IgnoreCase(key));
  }
  return Value::MakeList(std::move(keys));
}

Result Sort(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("sort", {"reverse", "case_sensitive", "attribute"}, 0, arguments));
  std::vector<AttributePath> paths;
  const Value attribute = NoneOr(bound[2]);
  if (attribute.is_string()) {
    const std::string& names = attribute.string();
    for (size_t begin = 0; begin <= names.size();) {
      const size_t comma = std::min(names.find(',', begin), names.size());
      paths.emplace_back(Value::String(names.substr(begin, comma - begin)));
      begin = comma + 1;
    }
  } else {
    paths.emplace_back(attribute);
  }
  ASSIGN_OR_RETURN(const std::vector<Value> items, CollectItems(runtime, value));
  std::vector<Keyed> keyed;
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(Value key, SortKey(paths, TruthOr(bound[1], false), item));
    keyed.push_back({std::move(key), item});
  }
  RETURN_IF_ERROR(SortByKey(runtime, TruthOr(bound[0], false), &keyed));
  return ValuesOf(std::move(keyed));
}

Result DictSort(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("dictsort", {"case_sensitive", "by", "reverse"}, 0, arguments));
  ASSIGN_OR_RETURN(const std::string by, TextOr(bound[1], "key"));
  if (by != "key" && by != "value")
    return absl::InvalidArgumentError("You can only sort by either \"key\" or \"value\"");
  if (value.is_undefined()) return UndefinedError(value);
  if (!value.is_dict()) {
    return absl::InvalidArgumentError(absl::StrCat("AttributeError: '", ToAbsl(value.type_name()),
                                                   "' object has no attribute 'items'"));
  }
  std::vector<Keyed> keyed;
  for (const auto& [key, member] : value.dict().entries()) {
    const Value& sorted_by = by == "key" ? key : member;
    keyed.push_back({TruthOr(bound[0], false) ? sorted_by : IgnoreCase(sorted_by),
                     Value::MakeTuple({key, member})});
  }
  RETURN_IF_ERROR(SortByKey(runtime, TruthOr(bound[2], false), &keyed));
  return ValuesOf(std::move(keyed));
}

Result GroupBy(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(
      const Bound bound,
      BindArguments("groupby", {"attribute", "default", "case_sensitive"}, 1, arguments));
  const AttributePath path(*bound[0]);
  ASSIGN_OR_RETURN(const std::vector<Value> items, CollectItems(runtime, value));
  std::vector<Keyed> keyed;
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(const Value key, path.Get(item, bound[1]));
    keyed.push_back({TruthOr(bound[2], false) ? key : IgnoreCase(key), item});
  }
  RETURN_IF_ERROR(SortByKey(runtime, false, &keyed));
  std::vector<Value> groups;
  for (size_t begin = 0, end = 0; begin < keyed.size(); begin = end) {
    std::vector<Value> group;
    for (end = begin; end < keyed.size() && keyed[end].key == keyed[begin].key; ++end)
      group.push_back(keyed[end].value);
    ASSIGN_OR_RETURN(const Value grouper, path.Get(group[0], bound[1]));
    groups.push_back(Value::MakeGroup(grouper, Value::MakeList(std::move(group))));
  }
  return Value::MakeList(std::move(groups));
}

Result Unique(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("unique", {"case_sensitive", "attribute"}, 0, arguments));
  const AttributePath path(NoneOr(bound[1]));
  ASSIGN_OR_RETURN(const std::vector<Value> items, CollectItems(runtime, value));
  absl::flat_hash_set<Value> seen;
  std::vector<Value> kept;
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(Value key, path.Get(item));
    if (!TruthOr(bound[0], false)) key = IgnoreCase(key);
    if (!key.hashable()) return UnhashableError(key);
    if (seen.insert(std::move(key)).second) kept.push_back(item);
  }
  Value list = Value::MakeList(std::move(kept));
  ASSIGN_OR_RETURN(std::unique_ptr<Iterator> iterator, Iterate(list));
  return Value::MakeObject(std::make_shared<Generator>(std::move(iterator), list.depth()));
}

template <bool largest>
Result Extreme(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments(largest ? "max" : "min",
                                                    {"case_sensitive", "attribute"}, 0, arguments));
  const AttributePath path(NoneOr(bound[1]));
  ASSIGN_OR_RETURN(const std::vector<Value> items, CollectItems(runtime, value));
  if (items.empty())
    return Value::MakeUndefined("UndefinedError: No aggregated item, sequence was empty.");
  std::optional<Keyed> best;
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(Value key, path.Get(item));
    if (!TruthOr(bound[0], false)) key = IgnoreCase(key);
    if (best) {
      ASSIGN_OR_RETURN(const int order, Order(key, best->key, largest ? ">" : "<"));
      if (order != (largest ? 1 : -1)) continue;
    }
    best = Keyed{std::move(key), item};
  }
  return best->value;
}

Result Sum(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("sum", {"attribute", "start"}, 0, arguments));
  const AttributePath path(NoneOr(bound[0]));
  Value sum = bound[1].value_or(Value::Int(0));
  if (sum.is_string()) return TypeError("sum() can't sum strings [use ''.join(seq) instead]");
  ASSIGN_OR_RETURN(const std::vector<Value> items, CollectItems(runtime, value));
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(const Value term, path.Get(item));
    ASSIGN_OR_RETURN(sum, ApplyBinary(runtime, "+", sum, term));
  }
  return sum;
}

Result Join(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("join", {"d", "attribute"}, 0, arguments));
  const std::string separator = bound[0] ? ToText(*bound[0]) : "";
  const AttributePath path(NoneOr(bound[1]));
  ASSIGN_OR_RETURN(const std::vector<Value> items, CollectItems(runtime, value));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    ASSIGN_OR_RETURN(const Value item, path.Get(items[i]));
    const std::string text = ToText(item);
    RETURN_IF_ERROR(runtime.ChargeText(out.size() + separator.size() + text.size()));
    if (i > 0) out += separator;
    out += text;
  }
  return Value::String(std::move(out));
}

Result First(Runtime&, const Value& value, const Arguments&) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Iterator> iterator, Iterate(value));
  ASSIGN_OR_RETURN(const std::optional<Value> first, iterator->Next());
  return first ? *first
               : Value::MakeUndefined("UndefinedError: No first item, sequence was empty.");
}

bool IsReversible(const Value& value) { return value.is_undefined() || HasLength(value); }

Result Last(Runtime& runtime, const Value& value, const Arguments&) {
  if (value.is_undefined()) return UndefinedError(value);
  if (!IsReversible(value))
    return TypeError(absl::StrCat("'", ToAbsl(value.type_name()), "' object is not reversible"));
  ASSIGN_OR_RETURN(const std::vector<Value> items, CollectItems(runtime, value));
  return items.empty() ? Value::MakeUndefined("UndefinedError: No last item, sequence was empty.")
                       : items.back();
}

Result Reverse(Runtime& runtime, const Value& value, const Arguments&) {
  if (value.is_string()) {
    std::u32string points = ToCodePoints(value.string());
    std::reverse(points.begin(), points.end());
    return Value::StringLike(value, FromCodePoints(points));
  }
  if (!IsIterable(value)) return absl::InvalidArgumentError("argument must be iterable");
  ASSIGN_OR_RETURN(std::vector<Value> items, CollectItems(runtime, value));
  std::reverse(items.begin(), items.end());
  Value list = Value::MakeList(std::move(items));
  if (!IsReversible(value) || value.is_undefined()) return list;
  ASSIGN_OR_RETURN(std::unique_ptr<Iterator> iterator, Iterate(list));
  return Value::MakeObject(std::make_shared<Generator>(std::move(iterator), list.depth()));
}

Result ToList(Runtime& runtime, const Value& value, const Arguments&) {
  ASSIGN_OR_RETURN(std::vector<Value> items, CollectItems(runtime, value));
  return Value::MakeList(std::move(items));
}

Result Items(Runtime&, const Value& value, const Arguments&) {
  Value source = value;
  if (value.is_undefined()) source = Value::MakeDict(Dict());
  if (!source.is_dict()) return TypeError("Can only get item pairs from a mapping.");
  const Value view = Value::MakeObject(std::make_shared<DictView>(source, DictView::Kind::kItems));
  ASSIGN_OR_RETURN(std::unique_ptr<Iterator> iterator, Iterate(view));
  return Value::MakeObject(std::make_shared<Generator>(std::move(iterator), view.depth()));
}

Result Batch(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("batch", {"linecount", "fill_with"}, 1, arguments));
  ASSIGN_OR_RETURN(const int64_t size, IntegerOr(bound[0], 1));
  ASSIGN_OR_RETURN(const std::vector<Value> items, CollectItems(runtime, value));
  std::vector<Value> rows;
  std::vector<Value> row;
  for (const Value& item : items) {
    if (static_cast<int64_t>(row.size()) == size)
      rows.push_back(Value::MakeList(std::exchange(row, {})));
    row.push_back(item);
  }
  if (!row.empty()) {
    if (bound[1] && !bound[1]->is_none() && size > static_cast<int64_t>(row.size())) {
      RETURN_IF_ERROR(runtime.ChargeItems(static_cast<uint64_t>(size)));
      row.resize(static_cast<size_t>(size), *bound[1]);
    }
    rows.push_back(Value::MakeList(std::move(row)));
  }
  return Value::MakeList(std::move(rows));
}

Result Slice(Runtime& runtime, const Value& value, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("slice", {"slices", "fill_with"}, 1, arguments));
  ASSIGN_OR_RETURN(const int64_t slices, IntegerOr(bound[0], 1));
  if (slices == 0)
    return absl::InvalidArgumentError("ZeroDivisionError: integer division or modulo by zero");
  RETURN_IF_ERROR(runtime.ChargeItems(static_cast<uint64_t>(std::max<int64_t>(slices, 0))));
  ASSIGN_OR_RETURN(const std::vector<Value> items, CollectItems(runtime, value));
  std::vector<Value> columns;
  size_t begin = 0;
  for (int64_t i = 0; i < slices; ++i) {
    const bool extra = i < static_cast<int64_t>(items.size()) % slices;
    const size_t end = begin + items.size() / static_cast<size_t>(slices) + (extra ? 1 : 0);
    std::vector<Value> column(items.begin() + static_cast<ptrdiff_t>(begin),
                              items.begin() + static_cast<ptrdiff_t>(end));
    if (bound[1] && !bound[1]->is_none() && !extra) column.push_back(*bound[1]);
    columns.push_back(Value::MakeList(std::move(column)));
    begin = end;
  }
  return Value::MakeList(std::move(columns));
}

}  // namespace

const FilterTable& ListFilters() {
  static const auto& table = *new FilterTable{
      {"sort", Sort},          {"dictsort", DictSort}, {"groupby", GroupBy}, {"unique", Unique},
      {"min", Extreme<false>}, {"max", Extreme<true>}, {"sum", Sum},         {"join", Join},
      {"first", First},        {"last", Last},         {"reverse", Reverse}, {"list", ToList},
      {"items", Items},        {"batch", Batch},       {"slice", Slice},
  };
  return table;
}

}  // namespace penstock::jinja
