#include "service/chat_messages.h"

#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/call_error.h"
#include "service/json_body.h"
#include "text/reply/function_name.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

// Templates want the arguments of earlier calls as an object; the wire carries them as a string of
// JSON.
absl::Status ReadToolCalls(Json& calls, const std::string& at) {
  if (!calls.is_array()) return InvalidField(at, absl::StrCat(at, " must be an array"));
  for (size_t i = 0; i < calls.size(); ++i) {
    const std::string call_at = absl::StrCat(at, "[", i, "]");
    if (!calls[i].is_object())
      return InvalidField(call_at, absl::StrCat(call_at, " must be an object"));
    const auto function = calls[i].find("function");
    if (function == calls[i].end()) continue;
    if (!function->is_object())
      return InvalidField(call_at, absl::StrCat(call_at, ".function must be an object"));
    const auto arguments = function->find("arguments");
    if (arguments == function->end() || !arguments->is_string()) continue;
    absl::StatusOr<Json> parsed = ParseWireJson(arguments->get_ref<const std::string&>());
    if (parsed.ok() && parsed->is_object()) *arguments = *std::move(parsed);
  }
  return absl::OkStatus();
}

absl::Status ReadMessage(Json& message, const std::string& at) {
  if (!message.is_object()) return InvalidField(at, absl::StrCat(at, " must be an object"));
  const auto role = message.find("role");
  if (role == message.end() || !role->is_string() || role->get_ref<const std::string&>().empty()) {
    return InvalidField(
        at + ".role", absl::StrCat(at, ".role must be a string: system, user, assistant or tool"));
  }
  const auto calls = message.find("tool_calls");
  const bool has_calls = calls != message.end() && !calls->is_null();
  if (has_calls) RETURN_IF_ERROR(ReadToolCalls(*calls, at + ".tool_calls"));
  const std::string content_at = at + ".content";
  const auto content = message.find("content");
  const bool silent = content == message.end() || content->is_null();
  if (silent) {
    if (role->get_ref<const std::string&>() == "assistant") return absl::OkStatus();
    return InvalidField(content_at, absl::StrCat(content_at, " is missing"));
  }
  if (content->is_array()) return JoinTextParts(*content, content_at);
  if (content->is_string()) return absl::OkStatus();
  return InvalidField(content_at,
                      absl::StrCat(content_at, " must be a string or an array of text parts, got ",
                                   content->type_name()));
}

absl::Status ReadMessages(Json& value, GenerationCall& call) {
  if (!value.is_array() || value.empty()) {
    return InvalidField("messages", "messages must be an array of at least one message");
  }
  for (size_t i = 0; i < value.size(); ++i) {
    RETURN_IF_ERROR(ReadMessage(value[i], absl::StrCat("messages[", i, "]")));
  }
  call.messages = std::make_shared<const Json>(std::move(value));
  return absl::OkStatus();
}

absl::Status ReadTools(Json& value, GenerationCall& call) {
  if (!value.is_array()) return WrongJsonType("tools", "an array", value);
  if (value.empty()) return absl::OkStatus();
  std::unordered_map<std::string, size_t> named;
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string at = absl::StrCat("tools[", i, "]");
    if (!value[i].is_object()) return WrongJsonType(at, "an object", value[i]);
    const auto function = value[i].find("function");
    if (function == value[i].end() || !function->is_object() || !function->contains("name") ||
        !(*function)["name"].is_string()) {
      return InvalidField(at, absl::StrCat(at, " must be a function with a name"));
    }
    const std::string& name = (*function)["name"].get_ref<const std::string&>();
    if (!IsFunctionName(name)) {
      return InvalidField(
          at, absl::StrCat(at, ": a function's name has 1 to 128 letters, digits and _-.:/"));
    }
    const auto schema = function->find("parameters");
    if (schema != function->end() && !schema->is_null() && !schema->is_object() &&
        !schema->is_boolean())
      return WrongJsonType(at + ".function.parameters", "a JSON Schema", *schema);
    const auto strict = function->find("strict");
    if (strict != function->end() && !strict->is_null() && !strict->is_boolean())
      return WrongJsonType(at + ".function.strict", "true or false", *strict);
    if (const auto [it, is_new] = named.emplace(name, i); !is_new) {
      return InvalidField(at,
                          absl::StrCat(at, ": tools[", it->second,
                                       "] has this name already: functions' names must differ"));
    }
  }
  call.tools = std::make_shared<const Json>(std::move(value));
  return absl::OkStatus();
}

}  // namespace

absl::Status JoinTextParts(Json& content, const std::string& at) {
  std::string joined;
  for (size_t i = 0; i < content.size(); ++i) {
    const Json& part = content[i];
    const std::string part_at = absl::StrCat(at, "[", i, "]");
    if (part.is_string()) {
      absl::StrAppend(&joined, i == 0 ? "" : "\n", part.get_ref<const std::string&>());
      continue;
    }
    if (!part.is_object())
      return InvalidField(part_at, absl::StrCat(part_at, " must be an object with a type"));
    const auto type = part.find("type");
    if (type == part.end() || !type->is_string()) {
      return InvalidField(part_at, absl::StrCat(part_at, ".type is missing: \"text\" is expected"));
    }
    const std::string& kind = type->get_ref<const std::string&>();
    const bool refusal = kind == "refusal";
    if (kind != "text" && kind != "input_text" && kind != "output_text" && !refusal) {
      return InvalidField(part_at, absl::StrCat(part_at, " is of type \"", Shown(kind),
                                                "\": only text is supported by this model"));
    }
    const auto text = part.find(refusal ? "refusal" : "text");
    if (text == part.end() || !text->is_string()) {
      return InvalidField(part_at, absl::StrCat(part_at, ".text must be a string"));
    }
    absl::StrAppend(&joined, i == 0 ? "" : "\n", text->get_ref<const std::string&>());
  }
  content = std::move(joined);
  return absl::OkStatus();
}

bool IsChatField(std::string_view name) {
  return name == "messages" || name == "tools" || name == "documents" ||
         name == "chat_template_kwargs";
}

absl::Status ReadChatField(std::string_view name, Json& value, GenerationCall& call) {
  if (name == "messages") return ReadMessages(value, call);
  if (name == "tools") return ReadTools(value, call);
  if (name == "documents") {
    if (!value.is_array()) return WrongJsonType(name, "an array", value);
    call.documents = std::make_shared<const Json>(std::move(value));
  } else {
    if (!value.is_object()) return WrongJsonType(name, "an object", value);
    call.template_arguments = std::make_shared<const Json>(std::move(value));
  }
  return absl::OkStatus();
}

}  // namespace penstock
