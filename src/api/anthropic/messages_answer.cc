#include "api/anthropic/messages_answer.h"

#include <utility>

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
  AddLimitHeaders(*exchange_, start.limits);
  request_id_ = start.request_id;
  id_ = "msg_" + start.request_id;
  model_name_ = std::move(start.model_name);
  prompt_tokens_ = start.prompt_tokens;
}

void MessagesAnswer::AppendMessageHead(std::string& out) const {
  out += "{\"id\":";
  AppendJsonString(out, id_);
  out += ",\"type\":\"message\",\"role\":\"assistant\",\"model\":";
  AppendJsonString(out, model_name_);
}

void MessagesAnswer::AppendStop(std::string& out) const {
  out += "\"stop_reason\":";
  if (!stop_string_.empty()) {
    out += "\"stop_sequence\"";
  } else {
    out += finish_ == FinishReason::kLength ? "\"max_tokens\"" : "\"end_turn\"";
  }
  out += ",\"stop_sequence\":";
  AppendJsonStringOrNull(out, stop_string_);
}

// What goes before the first text, and leaves with it.
void MessagesAnswer::AppendOpening() {
  opened_ = true;
  std::string message = ",\"message\":";
  AppendMessageHead(message);
  message += ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":";
  AppendMessageUsage(message, {prompt_tokens_, 0, 0});
  AppendMessageEvent(events_, "message_start", message + "}");
  AppendMessageEvent(events_, "content_block_start",
                     ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}");
  AppendMessageEvent(events_, "ping", "");
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
      stop_string_ = std::move(delta.stop_string);
    }
    if (!stream_) {
      text_ += delta.text;
      continue;
    }
    if (!opened_) AppendOpening();
    if (delta.text.empty()) continue;
    std::string piece = ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":";
    AppendJsonString(piece, delta.text);
    AppendMessageEvent(events_, "content_block_delta", piece + "}");
  }
  if (stream_) Flush();
}

void MessagesAnswer::OnEnd(const ResponseEnd& end) {
  if (end.error) return OnError(*end.error);
  if (!stream_) {
    HttpResponse response;
    response.headers.emplace_back("request-id", request_id_);
    AppendMessageHead(response.body);
    response.body += ",\"content\":[{\"type\":\"text\",\"text\":";
    AppendJsonString(response.body, text_);
    response.body += "}],";
    AppendStop(response.body);
    response.body += ",\"usage\":";
    AppendMessageUsage(response.body, end.usage);
    response.body += '}';
    return exchange_->Respond(std::move(response));
  }
  if (!opened_) AppendOpening();
  AppendMessageEvent(events_, "content_block_stop", ",\"index\":0");
  std::string last = ",\"delta\":{";
  AppendStop(last);
  last += "},\"usage\":";
  AppendMessageUsage(last, end.usage);
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
