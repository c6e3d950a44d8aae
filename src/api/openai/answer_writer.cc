#include "api/openai/answer_writer.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "api/http/json_text.h"

namespace penstock {
namespace {

void AppendIds(std::string& out, const std::vector<TokenId>& ids) {
  out += '[';
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ',';
    AppendJsonInt(out, ids[i]);
  }
  out += ']';
}

void AppendFinish(std::string& out, const Delta& delta) {
  out += ",\"finish_reason\":";
  if (!delta.finish) {
    out += "null";
  } else {
    out += *delta.finish == FinishReason::kLength ? "\"length\""
           : delta.num_calls > 0                  ? "\"tool_calls\""
                                                  : "\"stop\"";
  }
  out += ",\"stop_reason\":";
  if (!delta.stop_string.empty()) {
    AppendJsonString(out, delta.stop_string);
  } else if (delta.stop_token >= 0) {
    AppendJsonInt(out, delta.stop_token);
  } else {
    out += "null";
  }
}

/// By both names that clients read.
void AppendReasoning(std::string& out, const std::string& text) {
  if (out.back() != '{') out += ',';
  out += "\"reasoning_content\":";
  AppendJsonString(out, text);
  out += ",\"reasoning\":";
  AppendJsonString(out, text);
}

void AppendCalls(std::string& out, const std::vector<CallDelta>& calls, bool indexed) {
  out += '[';
  for (const CallDelta& call : calls) {
    if (&call != &calls.front()) out += ',';
    out += '{';
    if (indexed) {
      out += "\"index\":";
      AppendJsonInt(out, call.index);
      out += ',';
    }
    if (!call.id.empty()) {
      out += "\"id\":";
      AppendJsonString(out, call.id);
      out += ",\"type\":\"function\",";
    }
    out += "\"function\":{";
    if (!call.name.empty()) {
      out += "\"name\":";
      AppendJsonString(out, call.name);
      out += ',';
    }
    out += "\"arguments\":";
    AppendJsonString(out, call.arguments);
    out += "}}";
  }
  out += ']';
}

}  // namespace

void AppendUsage(std::string& out, const UsageTotals& usage) {
  out += "{\"prompt_tokens\":";
  AppendJsonInt(out, usage.prompt_tokens);
  out += ",\"total_tokens\":";
  AppendJsonInt(out, usage.prompt_tokens + usage.completion_tokens);
  out += ",\"completion_tokens\":";
  AppendJsonInt(out, usage.completion_tokens);
  out += ",\"prompt_tokens_details\":{\"cached_tokens\":";
  AppendJsonInt(out, usage.cached_tokens);
  out += "},\"completion_tokens_details\":{\"reasoning_tokens\":";
  AppendJsonInt(out, usage.reasoning_tokens);
  out += "}}";
}

AnswerWriter::AnswerWriter(AnswerShape shape, ResponseStart start)
    : shape_(shape),
      start_(std::move(start)),
      begun_(start_.num_choices),
      text_offset_(start_.num_choices),
      completion_tokens_(start_.num_choices) {
  prefix_ = "data: ";
  AppendCommon(prefix_, shape_.chat ? "chat.completion.chunk" : "text_completion");
}

void AnswerWriter::AppendCommon(std::string& out, std::string_view object) const {
  out += "{\"id\":";
  AppendJsonString(out, absl::StrCat(shape_.chat ? "chatcmpl-" : "cmpl-", start_.request_id));
  out += ",\"object\":";
  AppendJsonString(out, object);
  out += ",\"created\":";
  AppendJsonInt(out, start_.created);
  out += ",\"model\":";
  AppendJsonString(out, start_.model_name);
  if (start_.model != nullptr && !start_.model->fingerprint.empty()) {
    out += ",\"system_fingerprint\":";
    AppendJsonString(out, start_.model->fingerprint);
  }
  out += ",\"choices\":[";
}

void AnswerWriter::AppendEvent(std::string& out, const Delta& delta) {
  out += prefix_;
  AppendChoice(out, delta);
  out += ']';
  std::vector<std::string> warnings;
  if (!std::exchange(warned_, true)) warnings = start_.warnings;
  warnings.insert(warnings.end(), delta.warnings.begin(), delta.warnings.end());
  AppendWarnings(out, warnings);
  completion_tokens_[delta.index] = delta.completion_tokens;
  if (shape_.continuous_usage) {
    out += ",\"usage\":";
    const int64_t tokens =
        std::accumulate(completion_tokens_.begin(), completion_tokens_.end(), int64_t{0});
    AppendUsage(out, {start_.prompt_tokens, tokens, 0});
  } else if (shape_.include_usage) {
    out += ",\"usage\":null";
  }
  out += "}\n\n";
}

void AnswerWriter::AppendUsageEvent(std::string& out, const UsageTotals& usage) const {
  out += prefix_;
  out += "],\"usage\":";
  AppendUsage(out, usage);
  out += "}\n\n";
}

std::string AnswerWriter::Body(const std::vector<Delta>& choices, const UsageTotals& usage) {
  std::string out;
  AppendCommon(out, shape_.chat ? "chat.completion" : "text_completion");
  for (size_t i = 0; i < choices.size(); ++i) {
    if (i > 0) out += ',';
    AppendChoice(out, choices[i]);
  }
  out += ']';
  if (shape_.chat) AppendPromptLogprobs(out, choices.front());
  out += ",\"usage\":";
  AppendUsage(out, usage);
  std::vector<std::string> warnings = start_.warnings;
  for (const Delta& choice : choices)
    warnings.insert(warnings.end(), choice.warnings.begin(), choice.warnings.end());
  AppendWarnings(out, warnings);
  out += '}';
  return out;
}

void AnswerWriter::AppendChoice(std::string& out, const Delta& delta) {
  const bool first = !begun_[delta.index];
  begun_[delta.index] = true;
  out += "{\"index\":";
  AppendJsonInt(out, delta.index);
  if (shape_.chat) {
    AppendMessage(out, delta, first);
  } else {
    out += ",\"text\":";
    AppendJsonString(out, delta.text);
  }
  out += ",\"logprobs\":";
  const bool scored = !delta.tokens.empty() || (shape_.echo && !delta.prompt_logprobs.empty());
  if (!shape_.logprobs || !scored) {
    out += "null";
  } else if (shape_.chat) {
    AppendChatLogprobs(out, delta);
  } else {
    AppendLogprobs(out, delta);
  }
  AppendFinish(out, delta);
  if (!shape_.chat) AppendPromptLogprobs(out, delta);
  if (shape_.return_token_ids) AppendTokenIds(out, delta, first);
  out += '}';
}

void AnswerWriter::AppendMessage(std::string& out, const Delta& delta, bool first) {
  if (!shape_.stream) {
    out += ",\"message\":{\"role\":\"assistant\",\"content\":";
    if (delta.text.empty() && !delta.calls.empty()) {
      out += "null";
    } else {
      AppendJsonString(out, delta.text);
    }
    if (!delta.reasoning.empty()) AppendReasoning(out, delta.reasoning);
    out += ",\"refusal\":null,\"tool_calls\":";
    AppendCalls(out, delta.calls, false);
    out += '}';
    return;
  }
  out += first ? ",\"delta\":{\"role\":\"assistant\"" : ",\"delta\":{";
  if (first || !delta.text.empty() || (delta.reasoning.empty() && delta.calls.empty())) {
    out += first ? ",\"content\":" : "\"content\":";
    AppendJsonString(out, delta.text);
  }
  if (!delta.reasoning.empty()) AppendReasoning(out, delta.reasoning);
  if (!delta.calls.empty()) {
    out += out.back() == '{' ? "\"tool_calls\":" : ",\"tool_calls\":";
    AppendCalls(out, delta.calls, true);
  }
  out += '}';
}

void AnswerWriter::AppendTokenIds(std::string& out, const Delta& delta, bool first) const {
  out += ",\"token_ids\":[";
  for (size_t i = 0; i < delta.tokens.size(); ++i) {
    if (i > 0) out += ',';
    AppendJsonInt(out, delta.tokens[i].id);
  }
  out += ']';
  if (!first) return;
  const size_t copies = start_.num_choices / std::max<size_t>(1, start_.prompt_ids.size());
  out += ",\"prompt_token_ids\":";
  AppendIds(out, start_.prompt_ids[delta.index / std::max<size_t>(1, copies)]);
}

}  // namespace penstock
