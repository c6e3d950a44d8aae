#include "service/call_key.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "access/digest.h"
#include "base/strings.h"
#include "service/call_fields.h"

namespace penstock {
namespace {

/// Fields that change how an answer is handed out, not what it is.
bool IsManner(std::string_view name) {
  for (const std::string_view manner :
       {"stream", "stream_interval", "priority", "request_id", "user", "timeout_ms",
        "ttft_timeout_ms", "model", "return_token_ids"}) {
    if (name == manner) return true;
  }
  return false;
}

void AppendPart(std::string& out, std::string_view text) {
  absl::StrAppend(&out, text.size(), ":", ToAbsl(text), ";");
}

struct MemberText {
  const GenerationCall& call;
  /// False: the call has no such field.
  bool operator()(std::optional<double> GenerationCall::*m, std::string& out) const {
    if (call.*m) out = nlohmann::json(*(call.*m)).dump();
    return (call.*m).has_value();
  }
  bool operator()(std::optional<int64_t> GenerationCall::*m, std::string& out) const {
    if (call.*m) out = absl::StrCat(*(call.*m));
    return (call.*m).has_value();
  }
  bool operator()(std::optional<bool> GenerationCall::*m, std::string& out) const {
    if (call.*m) out = *(call.*m) ? "1" : "0";
    return (call.*m).has_value();
  }
  bool operator()(std::optional<std::string> GenerationCall::*m, std::string& out) const {
    if (call.*m) out = *(call.*m);
    return (call.*m).has_value();
  }
  bool operator()(std::vector<std::string> GenerationCall::*m, std::string& out) const {
    for (const std::string& item : call.*m) AppendPart(out, item);
    return !(call.*m).empty();
  }
  bool operator()(std::vector<TokenId> GenerationCall::*m, std::string& out) const {
    for (const TokenId id : call.*m) absl::StrAppend(&out, id, ",");
    return !(call.*m).empty();
  }
  bool operator()(std::vector<std::pair<TokenId, double>> GenerationCall::*m,
                  std::string& out) const {
    for (const auto& [id, bias] : call.*m)
      absl::StrAppend(&out, id, "=", nlohmann::json(bias).dump(), ",");
    return !(call.*m).empty() || !call.text_bias.empty();
  }
  bool operator()(OwnForm, std::string&) const { return false; }
};

/// Calls `fn(name, text)` with each field of the table that the call has.
template <class Fn>
void EachMember(const GenerationCall& call, Fn fn) {
  for (const CallField& field : CallFields()) {
    if ((field.surfaces & kEverywhere) == 0) continue;
    std::string text;
    const bool there =
        std::visit([&](auto member) { return MemberText{call}(member, text); }, field.member);
    if (there) fn(field.name, text);
  }
}

}  // namespace

std::vector<std::string> FieldsOf(const GenerationCall& call) {
  std::vector<std::string> out;
  EachMember(call, [&](std::string_view name, const std::string&) { out.emplace_back(name); });
  for (const auto& [name, there] :
       {std::pair("prompt", !call.prompts.empty()),
        {"messages", call.messages != nullptr},
        {"tools", call.tools != nullptr && !call.tools->is_null()},
        {"documents", call.documents != nullptr && !call.documents->is_null()},
        {"chat_template_kwargs", call.template_arguments != nullptr},
        {"tool_choice", call.tool_choice != ToolChoice::kAuto || !call.allowed_functions.empty()},
        {"stream_options", call.include_usage || call.continuous_usage_stats}}) {
    if (there) out.emplace_back(name);
  }
  if (!call.grammar_field.empty()) out.push_back(call.grammar_field);
  return out;
}

bool IsRepeatable(const GenerationCall& call, const ServedModel& model) {
  const double temperature =
      call.temperature ? *call.temperature : model.defaults.temperature.value_or(1.0);
  const bool wants_tokens = call.num_logprobs || call.want_logprobs.value_or(false) ||
                            call.top_logprobs || call.num_prompt_logprobs ||
                            call.return_token_ids.value_or(false) ||
                            !call.logprob_token_ids.empty() || model.tokenizer == nullptr;
  return (temperature == 0 || call.seed) && model.parent.empty() && !wants_tokens && !call.grammar;
}

std::string CallKey(const GenerationCall& call, const ServedModel& model, std::string_view owner) {
  std::string text;
  AppendPart(text, owner);
  AppendPart(text, model.name);
  absl::StrAppend(&text, call.chat ? " chat" : " text", call.splits_reply ? " split" : "", " ",
                  static_cast<int>(call.tool_choice), " ");
  AppendPart(text, call.named_function);
  for (const std::string& name : call.allowed_functions) AppendPart(text, name);
  EachMember(call, [&](std::string_view name, const std::string& value) {
    if (IsManner(name)) return;
    AppendPart(text, name);
    AppendPart(text, value);
  });
  for (const auto& [piece, bias] : call.text_bias) {
    AppendPart(text, piece);
    AppendPart(text, nlohmann::json(bias).dump());
  }
  for (const PromptInput& prompt : call.prompts) {
    AppendPart(text, prompt.is_ids ? "ids" : "text");
    AppendPart(text, prompt.text);
    for (const TokenId id : prompt.ids) absl::StrAppend(&text, id, ",");
  }
  for (const auto* json :
       {&call.messages, &call.tools, &call.documents, &call.template_arguments}) {
    AppendPart(text, *json == nullptr
                         ? ""
                         : (*json)->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  return Sha256(text);
}

}  // namespace penstock
