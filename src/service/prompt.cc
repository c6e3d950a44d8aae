#include "service/prompt.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/cpu_parts.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/call_error.h"
#include "service/tool_choice.h"
#include "text/chat_template.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

std::string_view TrimRight(std::string_view text) {
  while (!text.empty() && static_cast<unsigned char>(text.back()) <= ' ') text.remove_suffix(1);
  return text;
}

Json TemplateContext(const GenerationCall& call, const ServedModel& model,
                     bool add_generation_prompt) {
  Json context = Json::object();
  context["messages"] = *call.messages;
  context["add_generation_prompt"] = add_generation_prompt;
  context["bos_token"] = model.bos_token;
  context["eos_token"] = model.eos_token;
  if (call.tools && !call.tools->is_null()) context["tools"] = AllowedTools(call);
  if (call.documents && !call.documents->is_null()) context["documents"] = *call.documents;
  if (call.reasoning_effort) {
    context["reasoning_effort"] = *call.reasoning_effort;
    // Templates that know only on and off have either of these names for it.
    if (*call.reasoning_effort == "none")
      for (const char* name : {"enable_thinking", "thinking"}) context[name] = false;
  }
  if (call.template_arguments && call.template_arguments->is_object()) {
    for (const auto& [key, value] : call.template_arguments->items()) context[key] = value;
  }
  return context;
}

const ChatTemplate* TemplateFor(const GenerationCall& call, const ServedModel& model) {
  const bool has_tools = call.tools && !call.tools->is_null();
  return has_tools && model.tool_template != nullptr ? model.tool_template : model.chat_template;
}

// Ends the text where the last message's own content ends, so that the output goes on with it.
absl::Status CutAfterLastMessage(const Json& messages, std::string& text) {
  const Json& last = messages.back();
  const auto content = last.find("content");
  if (content == last.end() || !content->is_string()) {
    return InvalidField("continue_final_message",
                        "continue_final_message needs a last message with text content");
  }
  const std::string_view wanted = TrimRight(content->get_ref<const std::string&>());
  const size_t at = text.rfind(wanted);
  if (wanted.empty() || at == std::string::npos) {
    return InvalidField("continue_final_message",
                        "the chat template does not keep the last message's text");
  }
  text.resize(at + wanted.size());
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TokenId>> ChatPrompt(const GenerationCall& call,
                                                const ServedModel& model) {
  if (model.tokenizer == nullptr) {
    return InvalidField("messages",
                        "this model has no tokenizer: send token ids to /v1/completions");
  }
  ASSIGN_OR_RETURN(const std::string text, RenderChat(call, model));
  const CpuPart part(FrontPart::kTokenizer);
  return model.tokenizer->Encode(text, call.add_special_tokens.value_or(false));
}

absl::StatusOr<std::vector<TokenId>> PlainPrompt(const GenerationCall& call,
                                                 const ServedModel& model,
                                                 const PromptInput& prompt) {
  if (prompt.is_ids) return prompt.ids;
  if (model.tokenizer == nullptr) {
    return InvalidField("prompt",
                        "this model has no tokenizer: the prompt must be an array of token ids");
  }
  const CpuPart part(FrontPart::kTokenizer);
  return model.tokenizer->Encode(prompt.text, call.add_special_tokens.value_or(true));
}

/// What a template says of itself and raises may hold any text of the messages.
absl::Status TemplateFails(std::string_view field, std::string_view prefix,
                           const absl::Status& why) {
  return WithClientsText(InvalidField(field, absl::StrCat(ToAbsl(prefix), why.message())));
}

void Truncate(std::vector<TokenId>& ids, int64_t keep) {
  if (keep >= 0 && static_cast<int64_t>(ids.size()) > keep)
    ids.erase(ids.begin(), ids.end() - keep);
}

}  // namespace

absl::Status CheckIds(const std::vector<TokenId>& ids, const ServedModel& model,
                      std::string_view field) {
  if (ids.empty())
    return InvalidField(field,
                        absl::StrCat(ToAbsl(field), " is empty: at least one token is needed"));
  for (TokenId id : ids) {
    if (id < 0 || id >= model.vocab_size) {
      return InvalidField(
          field, absl::StrCat(ToAbsl(field), ": token id ", id, " is not in the vocabulary [0, ",
                              model.vocab_size, ")"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> RenderChat(const GenerationCall& call, const ServedModel& model) {
  const CpuPart part(FrontPart::kTemplate);
  if (!call.messages || !call.messages->is_array() || call.messages->empty()) {
    return InvalidField("messages", "messages must be an array of at least one message");
  }
  const bool continues = call.continue_final_message.value_or(false);
  const bool add_generation_prompt = call.add_generation_prompt.value_or(!continues);
  if (continues && add_generation_prompt) {
    return InvalidField("continue_final_message",
                        "continue_final_message excludes add_generation_prompt");
  }
  const Json context = TemplateContext(call, model, add_generation_prompt);
  std::string text;
  if (call.chat_template) {
    absl::StatusOr<ChatTemplate> own = ChatTemplate::Parse(*call.chat_template);
    if (!own.ok()) return TemplateFails("chat_template", "chat_template: ", own.status());
    absl::StatusOr<std::string> rendered = own->Render(context, absl::Now());
    if (!rendered.ok()) return TemplateFails("chat_template", "chat_template: ", rendered.status());
    text = *std::move(rendered);
  } else if (const ChatTemplate* chosen = TemplateFor(call, model); chosen == nullptr) {
    return InvalidField(
        "messages", "this model has no chat template: use /v1/completions or send chat_template");
  } else {
    absl::StatusOr<std::string> rendered = chosen->Render(context, absl::Now());
    if (!rendered.ok()) {
      return TemplateFails("messages",
                           "the chat template refuses the messages: ", rendered.status());
    }
    text = *std::move(rendered);
  }
  if (continues) RETURN_IF_ERROR(CutAfterLastMessage(*call.messages, text));
  return text;
}

absl::StatusOr<std::vector<std::vector<TokenId>>> BuildPrompts(const GenerationCall& call,
                                                               const ServedModel& model) {
  std::vector<std::vector<TokenId>> prompts;
  if (call.chat) {
    ASSIGN_OR_RETURN(std::vector<TokenId> ids, ChatPrompt(call, model));
    prompts.push_back(std::move(ids));
  } else {
    for (const PromptInput& prompt : call.prompts) {
      ASSIGN_OR_RETURN(std::vector<TokenId> ids, PlainPrompt(call, model, prompt));
      prompts.push_back(std::move(ids));
    }
  }
  const std::string_view field = call.chat ? "messages" : "prompt";
  if (prompts.empty()) return InvalidField(field, absl::StrCat(ToAbsl(field), " is missing"));
  for (std::vector<TokenId>& ids : prompts) {
    if (call.truncate_prompt_tokens) {
      const int64_t keep = *call.truncate_prompt_tokens;
      if (keep == 0)
        return InvalidField("truncate_prompt_tokens",
                            "truncate_prompt_tokens must be -1 or at least 1");
      Truncate(ids, keep == -1 ? std::max(1, model.max_context - 1) : keep);
    }
    RETURN_IF_ERROR(CheckIds(ids, model, field));
  }
  return prompts;
}

}  // namespace penstock
