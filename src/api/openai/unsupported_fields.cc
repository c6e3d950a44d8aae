// The fields of the API that this server refuses.
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "api/openai/call_codec.h"
#include "base/strings.h"
#include "service/call_error.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

struct UnsupportedField {
  std::string_view name;
  uint8_t surfaces;
  std::string_view instead;
};

constexpr UnsupportedField kUnsupported[] = {
    {"structured_outputs", kHttp, "structured output is not supported"},
    {"guided_json", kHttp, "structured output is not supported"},
    {"guided_regex", kHttp, "structured output is not supported"},
    {"guided_choice", kHttp, "structured output is not supported"},
    {"guided_grammar", kHttp, "structured output is not supported"},
    {"guided_json_object", kHttp, "structured output is not supported"},
    {"bad_words", kHttp, "use logit_bias to keep tokens out"},
    {"prompt_logprobs", kHttp, "echo with logprobs on /v1/completions gives them"},
    {"suffix", kCompletions, "filling in before a suffix is not supported"},
    {"use_beam_search", kHttp, "beam search is not supported"},
    {"logits_processors", kHttp, "custom processors are not supported"},
    {"prompt_embeds", kHttp, "a prompt is text or token ids"},
    {"functions", kChat, "use tools"},
    {"function_call", kChat, "use tools"},
    {"audio", kChat, "only text is supported"},
    {"web_search_options", kChat, "web search is not supported"},
    {"echo", kChat, "echo is for /v1/completions"},
};

bool IsUsed(const Json& value) {
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
      return true;
  }
}

absl::Status CheckResponseFormat(const Json& value) {
  if (!value.is_object())
    return InvalidField("response_format", "response_format must be an object with a type");
  const auto type = value.find("type");
  if (type != value.end() && *type == "text") return absl::OkStatus();
  return InvalidField(
      "response_format",
      "response_format: only {\"type\": \"text\"} is supported, structured output is not yet");
}

absl::Status CheckToolChoice(const Json& value) {
  if (value == "none" || value == "auto") return absl::OkStatus();
  return InvalidField(
      "tool_choice",
      "tool_choice: only \"none\" and \"auto\" are supported, a forced call is not yet");
}

}  // namespace

absl::Status RefuseUnsupported(std::string_view name, const Json& value, Surface surface) {
  if (name == "response_format") return CheckResponseFormat(value);
  if (name == "tool_choice" && surface == kChat) return CheckToolChoice(value);
  if (name == "modalities" && surface == kChat) {
    if (value == Json::array({"text"})) return absl::OkStatus();
    return InvalidField(name, "modalities: only [\"text\"] is supported");
  }
  if (name == "spaces_between_special_tokens" && value == false) {
    return InvalidField(name, "spaces_between_special_tokens: false is not supported");
  }
  for (const UnsupportedField& field : kUnsupported) {
    if (field.name == name && (field.surfaces & surface) != 0 && IsUsed(value)) {
      return InvalidField(name,
                          absl::StrCat(ToAbsl(name), " is not supported: ", ToAbsl(field.instead)));
    }
  }
  return absl::OkStatus();
}

}  // namespace penstock
