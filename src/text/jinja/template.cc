#include "text/jinja/template.h"

#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/objects.h"
#include "text/jinja/parser.h"

namespace penstock::jinja {
namespace {

absl::StatusOr<Value> ToValue(const nlohmann::ordered_json& json, int depth) {
  if (depth > kMaxValueDepth) return absl::InvalidArgumentError("the context nests too deeply");
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::boolean:
      return Value::Bool(json.get<bool>());
    case nlohmann::ordered_json::value_t::number_integer:
      return Value::Int(json.get<int64_t>());
    case nlohmann::ordered_json::value_t::number_unsigned: {
      const auto number = json.get<uint64_t>();
      if (number > static_cast<uint64_t>(INT64_MAX))
        return Value::MakeObject(std::make_shared<WideInteger>(number));
      return Value::Int(static_cast<int64_t>(number));
    }
    case nlohmann::ordered_json::value_t::number_float:
      return Value::Float(json.get<double>());
    case nlohmann::ordered_json::value_t::string:
      return Value::String(json.get_ref<const std::string&>());
    case nlohmann::ordered_json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const auto& item : json) {
        ASSIGN_OR_RETURN(Value value, ToValue(item, depth + 1));
        items.push_back(std::move(value));
      }
      return Value::MakeList(std::move(items));
    }
    case nlohmann::ordered_json::value_t::object: {
      Dict dict;
      for (const auto& [key, member] : json.items()) {
        ASSIGN_OR_RETURN(Value value, ToValue(member, depth + 1));
        dict.Set(Value::String(key), std::move(value));
      }
      return Value::MakeDict(std::move(dict));
    }
    default:
      return Value();
  }
}

}  // namespace

absl::StatusOr<Template> Template::Parse(std::string_view source) {
  ASSIGN_OR_RETURN(Program program, ParseTemplate(source));
  return Template(std::move(program));
}

absl::StatusOr<std::string> Template::Render(const Dict& context, absl::Time now,
                                             const Limits& limits) const {
  return Evaluator(program_, limits, now).Render(context);
}

absl::StatusOr<Dict> ToDict(const nlohmann::ordered_json& json) {
  if (!json.is_object()) return absl::InvalidArgumentError("the context is no object");
  ASSIGN_OR_RETURN(const Value value, ToValue(json, 0));
  return value.dict();
}

}  // namespace penstock::jinja
