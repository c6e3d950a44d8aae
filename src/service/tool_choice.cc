#include "service/tool_choice.h"

#include <algorithm>
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
                                   " must be \"none\", \"auto\", \"required\", "
                                   "{\"type\": \"function\", \"function\": {\"name\": ...}} or "
                                   "{\"type\": \"allowed_tools\", \"allowed_tools\": {...}}"));
}

bool IsAllowed(const GenerationCall& call, const std::string& name) {
  const std::vector<std::string>& allowed = call.allowed_functions;
  return allowed.empty() || std::find(allowed.begin(), allowed.end(), name) != allowed.end();
}

/// The name in {"type": "function", ...}, beside the type or a level deeper; null: none.
const std::string* NameOfFunction(const Json& value) {
  if (!value.is_object() || !value.contains("type") || value["type"] != "function") return nullptr;
  const auto inner = value.find("function");
  const Json& function = inner == value.end() ? value : *inner;
  if (!function.is_object() || !function.contains("name") || !function["name"].is_string())
    return nullptr;
  return &function["name"].get_ref<const std::string&>();
}

/// {"mode": "auto" or "required", "tools": [...]}
absl::Status ReadAllowed(const std::string& at, const Json& allowed, GenerationCall& call) {
  if (!allowed.is_object())
    return InvalidField(at, at + " must be an object with a mode and tools");
  const auto mode = allowed.find("mode");
  if (mode == allowed.end() || (*mode != "auto" && *mode != "required"))
    return InvalidField(at + ".mode", at + ".mode must be \"auto\" or \"required\"");
  const auto tools = allowed.find("tools");
  if (tools == allowed.end() || !tools->is_array() || tools->empty())
    return InvalidField(at + ".tools", at + ".tools must be an array of at least one function");
  for (size_t i = 0; i < tools->size(); ++i) {
    const std::string* name = NameOfFunction((*tools)[i]);
    const std::string tool_at = absl::StrCat(at, ".tools[", i, "]");
    if (name == nullptr)
      return InvalidField(tool_at, tool_at + " must be a function with its name");
    call.allowed_functions.push_back(*name);
  }
  call.tool_choice = *mode == "auto" ? ToolChoice::kAuto : ToolChoice::kRequired;
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadToolChoice(std::string_view name, const Json& value, GenerationCall& call) {
  call.named_function.clear();
  call.allowed_functions.clear();
  if (value == "none" || value == "auto" || value == "required") {
    call.tool_choice = value == "none"   ? ToolChoice::kNone
                       : value == "auto" ? ToolChoice::kAuto
                                         : ToolChoice::kRequired;
    return absl::OkStatus();
  }
  if (value.is_object() && value.contains("type") && value["type"] == "allowed_tools") {
    const auto inner = value.find("allowed_tools");
    const std::string at(name);
    return inner == value.end() ? ReadAllowed(at, value, call)
                                : ReadAllowed(at + ".allowed_tools", *inner, call);
  }
  const std::string* function = NameOfFunction(value);
  if (function == nullptr) return WrongChoice(name);
  call.tool_choice = ToolChoice::kNamed;
  call.named_function = *function;
  return absl::OkStatus();
}

Json AllowedTools(const GenerationCall& call) {
  if (call.allowed_functions.empty() || !HasTools(call)) return *call.tools;
  Json tools = Json::array();
  for (const Json& tool : *call.tools) {
    if (IsAllowed(call, tool["function"]["name"].get_ref<const std::string&>()))
      tools.push_back(tool);
  }
  return tools;
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
  for (const std::string& name : call.allowed_functions) {
    const bool there = HasTools(call) &&
                       std::any_of(call.tools->begin(), call.tools->end(), [&](const Json& tool) {
                         return tool["function"]["name"] == name;
                       });
    if (there) continue;
    return InvalidField(
        "tool_choice",
        absl::StrCat("tool_choice: there is no tool with the name \"", Shown(name), "\""));
  }
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
    if (!IsAllowed(call, spec.name)) continue;
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
