#include "service/tool_choice.h"

#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "service/call_error.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

bool HasTools(const GenerationCall& call) {
  return call.tools != nullptr && call.tools->is_array() && !call.tools->empty();
}

absl::Status WrongChoice(std::string_view name) {
  return InvalidField(name,
                      absl::StrCat(std::string(name),
                                   " must be \"none\", \"auto\", \"required\" or "
                                   "{\"type\": \"function\", \"function\": {\"name\": ...}}"));
}

}  // namespace

absl::Status ReadToolChoice(std::string_view name, const Json& value, GenerationCall& call) {
  call.named_function.clear();
  if (value == "none" || value == "auto" || value == "required") {
    call.tool_choice = value == "none"   ? ToolChoice::kNone
                       : value == "auto" ? ToolChoice::kAuto
                                         : ToolChoice::kRequired;
    return absl::OkStatus();
  }
  if (!value.is_object() || !value.contains("type") || value["type"] != "function")
    return WrongChoice(name);
  const auto inner = value.find("function");
  const Json& function = inner == value.end() ? value : *inner;
  if (!function.is_object() || !function.contains("name") || !function["name"].is_string())
    return WrongChoice(name);
  call.tool_choice = ToolChoice::kNamed;
  call.named_function = function["name"].get<std::string>();
  return absl::OkStatus();
}

bool MayCall(const GenerationCall& call) {
  return call.chat && call.splits_reply && call.tool_choice != ToolChoice::kNone && HasTools(call);
}

bool MustCall(const GenerationCall& call) {
  return MayCall(call) && call.tool_choice != ToolChoice::kAuto;
}

absl::Status CheckToolChoice(const GenerationCall& call) {
  const bool forced =
      call.tool_choice == ToolChoice::kRequired || call.tool_choice == ToolChoice::kNamed;
  if (!forced) return absl::OkStatus();
  if (!HasTools(call))
    return InvalidField("tool_choice", "tool_choice asks for a call, but there are no tools");
  if (!FunctionsOf(call).empty()) return absl::OkStatus();
  return InvalidField("tool_choice", absl::StrCat("tool_choice: there is no tool with the name \"",
                                                  call.named_function, "\""));
}

std::vector<FunctionSpec> FunctionsOf(const GenerationCall& call) {
  std::vector<FunctionSpec> functions;
  if (!HasTools(call)) return functions;
  for (size_t i = 0; i < call.tools->size(); ++i) {
    const Json& function = (*call.tools)[i]["function"];
    FunctionSpec spec;
    spec.name = function["name"].get<std::string>();
    if (call.tool_choice == ToolChoice::kNamed && spec.name != call.named_function) continue;
    const auto parameters = function.find("parameters");
    const bool silent = parameters == function.end() || parameters->is_null();
    spec.schema = silent ? R"({"type":"object","properties":{},"additionalProperties":false})"
                         : parameters->dump();
    spec.at = absl::StrCat("tools[", i, "].function.parameters");
    spec.strict = function.contains("strict") && function["strict"] == true;
    functions.push_back(std::move(spec));
  }
  return functions;
}

}  // namespace penstock
