#include "service/reply_setup.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/call_error.h"
#include "service/tool_choice.h"
#include "text/grammar/grammar_compiler.h"
#include "text/grammar/structural_tag.h"

namespace penstock {
namespace {

using ToolJson = nlohmann::ordered_json;

/// The member, or null where there is none.
const ToolJson& MemberOf(const ToolJson& object, const char* name) {
  static const ToolJson kNothing;
  if (!object.is_object()) return kNothing;
  const auto found = object.find(name);
  return found == object.end() ? kNothing : *found;
}

std::shared_ptr<const ArgumentKinds> ArgumentKindsOf(const ToolJson& tools) {
  auto types = std::make_shared<ArgumentKinds>();
  for (const ToolJson& tool : tools) {
    const ToolJson& function = MemberOf(tool, "function");
    const ToolJson& name = MemberOf(function, "name");
    const ToolJson& schema = MemberOf(function, "parameters");
    const ToolJson& properties = MemberOf(schema, "properties");
    if (!name.is_string() || !properties.is_object()) continue;
    auto& of_function = (*types)[name.get<std::string>()];
    for (const auto& [key, of] : properties.items()) of_function[key] = KindOfArgument(of, schema);
  }
  return types;
}

/// Calls of functions that the chat's messages hold.
int64_t CallsIn(const ToolJson& messages) {
  int64_t calls = 0;
  for (const ToolJson& message : messages) {
    const ToolJson& list = MemberOf(message, "tool_calls");
    if (list.is_array()) calls += static_cast<int64_t>(list.size());
  }
  return calls;
}

/// Where the reply goes on with a message: whether it goes on with that one's reasoning. Unknown where the
/// message holds no marker of it. `prompt`: its end, with the message.
std::optional<bool> GoesOnReasoning(const ReasoningFormat& format, const ToolJson& messages,
                                    std::string_view prompt) {
  const ToolJson& said = MemberOf(messages.back(), "content");
  if (!said.is_string()) return std::nullopt;
  const std::string& content = said.get_ref<const std::string&>();
  const size_t begin = content.rfind(format.begin), end = content.rfind(format.end);
  if (end != std::string::npos && (begin == std::string::npos || end > begin)) return false;
  if (begin != std::string::npos) return true;
  const size_t at = prompt.rfind(content.substr(0, content.find_last_not_of(" \n\r\t") + 1));
  if (at == std::string_view::npos) return std::nullopt;
  if (EndsInReasoning(format, prompt.substr(0, at))) return true;
  return std::nullopt;
}

/// Whether calls begin as no content of the call's form does.
bool TellsApart(const GenerationCall& call, const ServedModel& model) {
  if (call.grammar == nullptr) return true;
  if (model.call_format == nullptr) return false;
  if (grammar::BeginsCalls(*model.call_format)) return true;
  const GrammarSpec& form = *call.grammar;
  if (form.form == GrammarSpec::Form::kJsonObject)
    return grammar::BeginsCallsBeside(*model.call_format, R"({"type":"object"})");
  return form.form == GrammarSpec::Form::kJsonSchema && form.text.size() <= kMaxGrammarText &&
         grammar::BeginsCallsBeside(*model.call_format, form.text);
}

bool AnyStrict(const std::vector<FunctionSpec>& functions) {
  return std::any_of(functions.begin(), functions.end(),
                     [](const FunctionSpec& function) { return function.strict; });
}

bool IsStructuralTag(const GenerationCall& call) {
  return call.grammar != nullptr && call.grammar->form == GrammarSpec::Form::kTag;
}

/// Special tokens that a structural tag is written with are part of the text.
void KeepTagTokens(const GenerationCall& call, const ServedModel& model, StreamSetup& setup) {
  if (!IsStructuralTag(call) || model.tokenizer == nullptr) return;
  if (call.grammar->text.size() > kMaxGrammarText) return;  // it will be refused
  const ToolJson tag = ToolJson::parse(call.grammar->text, nullptr, false);
  for (const std::string& writing : grammar::WritingsOf(tag)) {
    for (const TokenId id : model.tokenizer->Encode(writing, false)) {
      if (model.tokenizer->is_special(id)) setup.reply_markers.push_back(id);
    }
  }
}

}  // namespace

void SetReply(const GenerationCall& call, const ServedModel& model,
              const std::vector<TokenId>& prompt, StreamSetup& setup) {
  KeepTagTokens(call, model, setup);
  if (!call.chat || !call.splits_reply) return;
  setup.reply.reasoning = model.reasoning_format;
  if (MustCall(call) || (MayCall(call) && TellsApart(call, model)))
    setup.reply.calls = model.call_format;
  setup.reply.apart = call.grammar != nullptr;
  setup.one_call =
      call.tool_choice == ToolChoice::kNamed || !call.parallel_tool_calls.value_or(true);
  if (setup.reply.calls != nullptr && WritesXml(setup.reply.calls->body))
    setup.argument_kinds = ArgumentKindsOf(*call.tools);
  if (setup.reply.calls != nullptr && call.messages != nullptr)
    setup.calls_before = CallsIn(*call.messages);
  if (model.tokenizer == nullptr) return;
  if (setup.reply.reasoning != nullptr) {
    size_t kept = 64;  // tokens, in which a template would have begun it
    const bool goes_on = call.continue_final_message.value_or(false) && call.messages != nullptr;
    if (goes_on) {
      const ToolJson& said = MemberOf(call.messages->back(), "content");
      if (said.is_string()) kept += said.get_ref<const std::string&>().size();
    }
    const size_t begin = prompt.size() - std::min(prompt.size(), kept);
    const std::string tail =
        model.tokenizer->Decode(absl::MakeConstSpan(prompt).subspan(begin), false);
    setup.in_reasoning = EndsInReasoning(*setup.reply.reasoning, tail);
    setup.may_reason = !EndsBehindReasoning(*setup.reply.reasoning, tail);
    if (goes_on && !IsHarmony(setup.reply)) {
      const std::optional<bool> within =
          GoesOnReasoning(*setup.reply.reasoning, *call.messages, tail);
      setup.in_reasoning = within.value_or(setup.in_reasoning);
      setup.may_reason = within.value_or(setup.may_reason);
    }
  }
  for (const std::string_view marker : MarkersOf(setup.reply)) {
    if (const auto id = model.tokenizer->TokenToId(marker)) setup.reply_markers.push_back(*id);
  }
}

absl::StatusOr<std::shared_ptr<const TokenGrammar>> CompileReply(
    const GenerationCall& call, const ServedModel& model, const StreamSetup& setup,
    std::vector<std::string>* warnings) {
  ReplySpec spec;
  std::string_view field = call.grammar_field;
  if (MustCall(call)) {
    field = "tools";
    if (setup.reply.calls == nullptr) {
      return InvalidField("tool_choice",
                          "tool_choice: how this model writes calls is not known, so none can be "
                          "forced (the configuration's tool_parser names the format)");
    }
    spec.calls = setup.reply.calls;
  } else {
    spec.content = call.grammar;
    if (call.grammar != nullptr) spec.calls = setup.reply.calls;  // one or the other
  }
  if (MayCall(call) && setup.reply.calls == nullptr && call.grammar != nullptr &&
      warnings != nullptr) {
    warnings->push_back(
        "tools: beside this form of the answer no calls are made: this model's cannot be told from "
        "it");
  }
  if (setup.reply.calls != nullptr) {
    std::vector<FunctionSpec> functions = FunctionsOf(call);
    if (spec.calls == nullptr && AnyStrict(functions)) {
      spec.calls = setup.reply.calls;
      spec.behind_text = true;
      field = "tools";
    }
    if (spec.calls != nullptr) spec.functions = std::move(functions);
    spec.several = !setup.one_call;
  }
  if (setup.reply.reasoning != nullptr && setup.may_reason) {
    spec.reasoning = setup.reply.reasoning;
    spec.in_reasoning = setup.in_reasoning;
    if (call.reasoning_budget) spec.reasoning_limit = static_cast<int32_t>(*call.reasoning_budget);
  } else {
    spec.past = setup.reply.reasoning;
  }
  if (spec.calls == nullptr && spec.content == nullptr && spec.reasoning_limit < 0) return nullptr;
  if (model.grammars == nullptr)
    return InvalidField(field, absl::StrCat(std::string(field), ": this model has no tokenizer"));
  absl::StatusOr<std::shared_ptr<const TokenGrammar>> made =
      model.grammars->Compile(spec, warnings);
  if (made.ok()) return made;
  if (IsStructuralTag(call) && field == call.grammar_field) {
    // What is said of a structural tag begins with the place in it.
    const std::string what(Message(made.status()));
    const std::string at = absl::StrCat(std::string(field), ".", what.substr(0, what.find(": ")));
    return InvalidField(at, absl::StrCat(std::string(field), ".", what));
  }
  // What is said of functions names them.
  const bool of_tools = Message(made.status()).starts_with("tools[");
  const std::string prefix = of_tools ? "" : absl::StrCat(std::string(field), ": ");
  return WithClientsText(
      InvalidField(of_tools ? "tools" : field, absl::StrCat(prefix, made.status().message())));
}

}  // namespace penstock
