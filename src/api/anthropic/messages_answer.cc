#include "api/anthropic/messages_answer.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "api/anthropic/messages_codec.h"
#include "api/http/json_text.h"
#include "api/http/limit_headers.h"
#include "api/http/router.h"
#include "service/call_error.h"

namespace penstock {
namespace {

// Anthropic counts what was found in the cache apart from the rest of the input.
void AppendMessageUsage(std::string& out, const UsageTotals& usage) {
  out += "{\"input_tokens\":";
  AppendJsonInt(out, usage.prompt_tokens - usage.cached_tokens);
  out += ",\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":";
  AppendJsonInt(out, usage.cached_tokens);
  out += ",\"output_tokens\":";
  AppendJsonInt(out, usage.completion_tokens);
  out += '}';
}

void AppendMessageEvent(std::string& out, std::string_view type, std::string_view rest) {
  out.append("event: ").append(type).append("\ndata: {\"type\":\"").append(type).append("\"");
  out.append(rest).append("}\n\n");
}

}  // namespace

void MessagesAnswer::OnStart(ResponseStart start) {
  AddStartHeaders(*exchange_, start);
  request_id_ = start.request_id;
  id_ = "msg_" + start.request_id;
  model_name_ = std::move(start.model_name);
  prompt_tokens_ = start.prompt_tokens;
  warnings_ = std::move(start.warnings);
}

void MessagesAnswer::AppendMessageHead(std::string& out) const {
  out += "{\"id\":";
  AppendJsonString(out, id_);
  out += ",\"type\":\"message\",\"role\":\"assistant\",\"model\":";
  AppendJsonString(out, model_name_);
  AppendWarnings(out, warnings_);
}

void MessagesAnswer::AppendStop(std::string& out) const {
  out += "\"stop_reason\":";
  if (!stop_string_.empty()) {
    out += "\"stop_sequence\"";
  } else {
    out += finish_ == FinishReason::kLength ? "\"max_tokens\""
           : calls_                         ? "\"tool_use\""
                                            : "\"end_turn\"";
  }
  out += ",\"stop_sequence\":";
  AppendJsonStringOrNull(out, stop_string_);
}

// What goes before the first text, and leaves with it.
void MessagesAnswer::AppendOpening() {
  opened_ = true;
  std::string message = ",\"message\":";
  AppendMessageHead(message);
  warnings_.clear();
  message += ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":";
  AppendMessageUsage(message, {prompt_tokens_, 0, 0});
  AppendMessageEvent(events_, "message_start", message + "}");
}

// A call's input that is cut off is no object: it is handed out as the text that it is.
void MessagesAnswer::AppendBlock(std::string& out, const Block& block) {
  if (block.kind == Kind::kToolUse) {
    out += "{\"type\":\"tool_use\",\"id\":";
    AppendJsonString(out, block.id);
    out += ",\"name\":";
    AppendJsonString(out, block.name);
    out += ",\"input\":";
    if (nlohmann::json::parse(block.text, nullptr, false).is_object()) {
      out += block.text;
    } else if (block.text.empty()) {
      out += "{}";
    } else {
      out += "{\"INVALID_JSON\":";
      AppendJsonString(out, block.text);
      out += '}';
    }
    out += '}';
    return;
  }
  const bool thinks = block.kind == Kind::kThinking;
  out += thinks ? "{\"type\":\"thinking\",\"signature\":\"\",\"thinking\":"
                : "{\"type\":\"text\",\"text\":";
  AppendJsonString(out, block.text);
  out += '}';
}

void MessagesAnswer::OpenBlock() {
  std::string start = absl::StrCat(",\"index\":", blocks_.size() - 1, ",\"content_block\":");
  AppendBlock(start, blocks_.back());
  AppendMessageEvent(events_, "content_block_start", start);
  if (blocks_.size() == 1) AppendMessageEvent(events_, "ping", "");
}

void MessagesAnswer::CloseBlock() {
  AppendMessageEvent(events_, "content_block_stop",
                     absl::StrCat(",\"index\":", blocks_.size() - 1));
}

MessagesAnswer::Block& MessagesAnswer::BlockFor(Kind kind, const CallDelta* call) {
  const bool goes_on = !blocks_.empty() && blocks_.back().kind == kind &&
                       (call == nullptr || blocks_.back().call == call->index);
  if (goes_on) return blocks_.back();
  if (stream_ && !blocks_.empty()) CloseBlock();
  Block block;
  block.kind = kind;
  if (call != nullptr) {
    // A form of its own is what the model's template takes back.
    const bool plain = call->id.starts_with("call_");
    block.id = plain ? "toolu_" + call->id.substr(5) : call->id;
    block.name = call->name;
    block.call = call->index;
  }
  blocks_.push_back(std::move(block));
  if (stream_) OpenBlock();
  return blocks_.back();
}

void MessagesAnswer::AddText(Block& block, std::string_view text) {
  if (!stream_) {
    block.text += text;
    return;
  }
  if (text.empty()) return;
  std::string piece = absl::StrCat(",\"index\":", blocks_.size() - 1, ",\"delta\":{\"type\":");
  piece += block.kind == Kind::kText      ? "\"text_delta\",\"text\":"
           : block.kind == Kind::kToolUse ? "\"input_json_delta\",\"partial_json\":"
                                          : "\"thinking_delta\",\"thinking\":";
  AppendJsonString(piece, text);
  AppendMessageEvent(events_, "content_block_delta", piece + "}");
}

void MessagesAnswer::Flush() {
  exchange_->StartStream(kEventStream, {{"request-id", request_id_}});
  exchange_->Write(events_);
  events_.clear();
}

void MessagesAnswer::OnDeltas(absl::Span<Delta> deltas) {
  for (Delta& delta : deltas) {
    if (delta.finish) {
      finish_ = delta.finish;
      calls_ = delta.num_calls > 0;
      stop_string_ = std::move(delta.stop_string);
    }
    if (stream_ && !opened_) AppendOpening();
    warnings_.insert(warnings_.end(), delta.warnings.begin(), delta.warnings.end());
    if (!delta.reasoning.empty()) AddText(BlockFor(Kind::kThinking, nullptr), delta.reasoning);
    if (!delta.text.empty()) AddText(BlockFor(Kind::kText, nullptr), delta.text);
    for (const CallDelta& call : delta.calls)
      AddText(BlockFor(Kind::kToolUse, &call), call.arguments);
  }
  if (stream_) Flush();
}

void MessagesAnswer::OnEnd(const ResponseEnd& end) {
  if (end.error) return OnError(*end.error);
  if (stream_ && !opened_) AppendOpening();
  if (blocks_.empty()) BlockFor(Kind::kText, nullptr);
  if (!stream_) {
    HttpResponse response;
    response.headers.emplace_back("request-id", request_id_);
    AppendMessageHead(response.body);
    response.body += ",\"content\":[";
    for (const Block& block : blocks_) {
      if (&block != &blocks_.front()) response.body += ',';
      AppendBlock(response.body, block);
    }
    response.body += "],";
    AppendStop(response.body);
    response.body += ",\"usage\":";
    AppendMessageUsage(response.body, end.usage);
    response.body += '}';
    return exchange_->Respond(std::move(response));
  }
  CloseBlock();
  std::string last = ",\"delta\":{";
  AppendStop(last);
  last += "},\"usage\":";
  AppendMessageUsage(last, end.usage);
  AppendWarnings(last, warnings_);
  AppendMessageEvent(events_, "message_delta", last);
  AppendMessageEvent(events_, "message_stop", "");
  Flush();
  exchange_->EndStream(false);
}

void MessagesAnswer::OnError(const CallError& error) {
  const int status = HttpStatus(error.code);
  if (!exchange_->started()) return RespondError(*exchange_, status, error.message, error.param);
  exchange_->Write("event: error\ndata: " +
                   MessagesErrorBody(status, error.message, error.param, request_id_) + "\n\n");
  exchange_->EndStream(true);
}

}  // namespace penstock
