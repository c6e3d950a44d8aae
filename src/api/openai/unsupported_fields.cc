// The fields of the API that this server refuses, or of which it takes one value.
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "api/openai/call_codec.h"
#include "base/strings.h"
#include "service/call_error.h"
#include "service/json_body.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

bool IsUsed(const WireValue& wire) {
  const Json value = wire.Tree();
  switch (value.type()) {
    case Json::value_t::null:
      return false;
    case Json::value_t::boolean:
      return value.get<bool>();
    case Json::value_t::string:
    case Json::value_t::array:
    case Json::value_t::object:
      return !value.empty() && value != "";
    default:
      return value != 0;
  }
}

absl::Status CheckModalities(const Json& value) {
  if (value == Json::array({"text"})) return absl::OkStatus();
  return InvalidField("modalities", "modalities: only [\"text\"] is supported");
}

absl::Status CheckSpaces(const Json& value) {
  if (!value.is_boolean())
    return WrongJsonType("spaces_between_special_tokens", "true or false", value);
  if (value.get<bool>()) return absl::OkStatus();
  return InvalidField("spaces_between_special_tokens",
                      "spaces_between_special_tokens: false is not supported");
}

}  // namespace

absl::Status CheckOnlyValue(std::string_view name, const Json& value) {
  if (name == "modalities") return CheckModalities(value);
  return CheckSpaces(value);
}

absl::Status RefuseUnsupported(std::string_view name, const WireValue& value, Surface surface) {
  for (const UnsupportedField& field : UnsupportedFields()) {
    if (field.name == name && (field.surfaces & surface) != 0 && IsUsed(value)) {
      return InvalidField(name,
                          absl::StrCat(ToAbsl(name), " is not supported: ", ToAbsl(field.instead)));
    }
  }
  return absl::OkStatus();
}

}  // namespace penstock
