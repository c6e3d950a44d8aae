#include "api/openai/adapter_body.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/call_error.h"
#include "service/wire_json.h"

namespace penstock {
namespace {

absl::Status ReadAdapterText(const WireValue& body, std::string_view field, bool required,
                             std::optional<std::string>& out) {
  const std::optional<WireValue> value = body.Find(field);
  if (!value || value->is_null()) {
    if (!required) return absl::OkStatus();
    return InvalidField(field, absl::StrCat(ToAbsl(field), " is missing"));
  }
  if (!value->is_string()) return WithField(WrongWireType(field, "a string", *value), field);
  out = std::string(value->text());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<AdapterBody> ReadAdapterBody(std::string_view text, bool loads) {
  ASSIGN_OR_RETURN(const WireDocument document, WireDocument::Parse(text));
  const WireValue& body = document.root();
  if (!body.is_object()) return absl::InvalidArgumentError("the body must be a JSON object");
  AdapterBody out;
  std::optional<std::string> name, path;
  RETURN_IF_ERROR(ReadAdapterText(body, "lora_name", true, name));
  RETURN_IF_ERROR(ReadAdapterText(body, "lora_path", loads, path));
  RETURN_IF_ERROR(ReadAdapterText(body, "base_model_name", false, out.base));
  if (const auto value = body.Find("load_inplace"); value && !value->is_null()) {
    if (!value->is_boolean())
      return WithField(WrongWireType("load_inplace", "true or false", *value), "load_inplace");
    out.in_place = value->boolean();
  }
  out.name = *std::move(name);
  out.path = path.value_or("");
  return out;
}

}  // namespace penstock
