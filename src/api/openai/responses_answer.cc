#include "api/openai/responses_answer.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "api/http/json_text.h"
#include "api/http/limit_headers.h"
#include "api/http/router.h"
#include "base/strings.h"
#include "service/call_error.h"
#include "service/ids.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

// ,"name":"text", or null
void AppendTextMember(std::string& out, std::string_view name,
                      const std::optional<std::string>& text) {
  out.append(",\"").append(name).append("\":");
  if (text) {
    AppendJsonString(out, *text);
  } else {
    out += "null";
  }
}

void AppendResponseUsage(std::string& out, const UsageTotals& usage) {
  absl::StrAppend(&out, "{\"input_tokens\":", usage.prompt_tokens,
                  ",\"input_tokens_details\":{\"cached_tokens\":", usage.cached_tokens,
                  "},\"output_tokens\":", usage.completion_tokens,
                  ",\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":",
                  usage.prompt_tokens + usage.completion_tokens, "}");
}

}  // namespace

// The ids are our own, whatever the request is called: a client cannot choose what it overwrites.
ResponsesAnswer::ResponsesAnswer(std::shared_ptr<HttpExchange> exchange, ResponseRequest request,
                                 std::shared_ptr<ResponseStore> store)
    : exchange_(std::move(exchange)),
      request_(std::move(request)),
      store_(std::move(store)),
      id_("resp_" + MakeRequestId()),
      item_id_("msg_" + MakeRequestId()),
      owner_(exchange_->request().owner()) {}

void ResponsesAnswer::OnStart(ResponseStart start) {
  AddLimitHeaders(*exchange_, start.limits);
  const GenerationDefaults& defaults = start.model->defaults;
  temperature_ = request_.temperature.value_or(defaults.temperature.value_or(1));
  top_p_ = request_.top_p.value_or(defaults.top_p.value_or(1));
  model_name_ = std::move(start.model_name);
  created_ = start.created;
}

void ResponsesAnswer::AppendPart(std::string& out, std::string_view text) const {
  out += "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":";
  AppendJsonString(out, text);
  out += '}';
}

void ResponsesAnswer::AppendItem(std::string& out, Status status) const {
  absl::StrAppend(&out, "{\"id\":\"", item_id_, "\",\"type\":\"message\",\"status\":\"",
                  status == Status::kInProgress  ? "in_progress"
                  : status == Status::kCompleted ? "completed"
                                                 : "incomplete",
                  "\",\"role\":\"assistant\",\"content\":[");
  if (status != Status::kInProgress) AppendPart(out, text_);
  out += "]}";
}

void ResponsesAnswer::AppendRequest(std::string& out) const {
  AppendTextMember(out, "instructions", request_.instructions);
  out += ",\"max_output_tokens\":";
  out += request_.max_output_tokens ? absl::StrCat(*request_.max_output_tokens) : "null";
  out += ",\"max_tool_calls\":null,\"model\":";
  AppendJsonString(out, model_name_);
  absl::StrAppend(&out,
                  ",\"parallel_tool_calls\":", request_.parallel_tool_calls ? "true" : "false");
  AppendTextMember(out, "previous_response_id", request_.previous_response_id);
  AppendTextMember(out, "reasoning\":{\"effort", request_.reasoning_effort);
  out += ",\"summary\":null},\"service_tier\":\"default\",\"store\":";
  out += request_.store ? "true" : "false";
  out += ",\"temperature\":";
  AppendJsonNumber(out, static_cast<float>(temperature_));
  absl::StrAppend(&out, ",\"text\":", request_.text, ",\"tool_choice\":");
  AppendJsonString(out, request_.tool_choice);
  out += ",\"tools\":[],\"top_logprobs\":0,\"top_p\":";
  AppendJsonNumber(out, static_cast<float>(top_p_));
  out += ",\"truncation\":\"disabled\"";
  AppendTextMember(out, "user", request_.user);
  out += ",\"metadata\":";
  out += request_.metadata;
}

void ResponsesAnswer::AppendResponse(std::string& out, Status status, const UsageTotals* usage,
                                     const CallError* error) const {
  constexpr const char* kNames[] = {"in_progress", "completed", "incomplete", "failed"};
  absl::StrAppend(&out, "{\"id\":\"", id_, "\",\"object\":\"response\",\"created_at\":", created_,
                  ",\"status\":\"", kNames[static_cast<int>(status)],
                  "\",\"background\":false,\"error\":");
  if (error == nullptr) {
    out += "null";
  } else {
    out += "{\"code\":\"server_error\",\"message\":";
    AppendJsonString(out, error->message);
    out += '}';
  }
  out += ",\"incomplete_details\":";
  out += status == Status::kIncomplete ? "{\"reason\":\"max_output_tokens\"}" : "null";
  AppendRequest(out);
  out += ",\"output\":[";
  if (status == Status::kCompleted || status == Status::kIncomplete) AppendItem(out, status);
  out += "],\"usage\":";
  if (usage == nullptr) {
    out += "null";
  } else {
    AppendResponseUsage(out, *usage);
  }
  out += '}';
}

std::string ResponsesAnswer::Place() const {
  return absl::StrCat(",\"item_id\":\"", item_id_, "\",\"output_index\":0,\"content_index\":0");
}

void ResponsesAnswer::AppendEvent(std::string_view type, std::string_view rest) {
  absl::StrAppend(&events_, "event: ", ToAbsl(type), "\ndata: {\"type\":\"", ToAbsl(type),
                  "\",\"sequence_number\":", sequence_++, ToAbsl(rest), "}\n\n");
}

// What goes before the first text, and leaves with it.
void ResponsesAnswer::AppendOpening() {
  opened_ = true;
  std::string response = ",\"response\":";
  AppendResponse(response, Status::kInProgress, nullptr, nullptr);
  AppendEvent("response.created", response);
  AppendEvent("response.in_progress", response);
  std::string item = ",\"output_index\":0,\"item\":";
  AppendItem(item, Status::kInProgress);
  AppendEvent("response.output_item.added", item);
  std::string part = Place() + ",\"part\":";
  AppendPart(part, "");
  AppendEvent("response.content_part.added", part);
}

void ResponsesAnswer::AppendClosing(Status status) {
  std::string text = Place() + ",\"logprobs\":[],\"text\":";
  AppendJsonString(text, text_);
  AppendEvent("response.output_text.done", text);
  std::string part = Place() + ",\"part\":";
  AppendPart(part, text_);
  AppendEvent("response.content_part.done", part);
  std::string item = ",\"output_index\":0,\"item\":";
  AppendItem(item, status);
  AppendEvent("response.output_item.done", item);
}

void ResponsesAnswer::Flush() {
  exchange_->StartStream(kEventStream);
  exchange_->Write(events_);
  events_.clear();
}

void ResponsesAnswer::OnDeltas(absl::Span<Delta> deltas) {
  for (const Delta& delta : deltas) {
    if (delta.finish) finish_ = delta.finish;
    text_ += delta.text;
    if (!request_.stream) continue;
    if (!opened_) AppendOpening();
    if (delta.text.empty()) continue;
    std::string piece = Place() + ",\"logprobs\":[],\"delta\":";
    AppendJsonString(piece, delta.text);
    AppendEvent("response.output_text.delta", piece);
  }
  if (request_.stream) Flush();
}

void ResponsesAnswer::Keep(const std::string& body) const {
  if (!request_.store) return;
  auto conversation = std::make_shared<Json>(*request_.conversation);
  conversation->push_back({{"role", "assistant"}, {"content", text_}});
  store_->Put(owner_, id_, {body, std::move(conversation)});
}

void ResponsesAnswer::OnEnd(const ResponseEnd& end) {
  if (end.error) return OnError(*end.error);
  const Status status = finish_ == FinishReason::kLength ? Status::kIncomplete : Status::kCompleted;
  HttpResponse response;
  AppendResponse(response.body, status, &end.usage, nullptr);
  Keep(response.body);
  if (!request_.stream) return exchange_->Respond(std::move(response));
  if (!opened_) AppendOpening();
  AppendClosing(status);
  AppendEvent(status == Status::kIncomplete ? "response.incomplete" : "response.completed",
              ",\"response\":" + response.body);
  Flush();
  exchange_->EndStream(false);
}

void ResponsesAnswer::OnError(const CallError& error) {
  const int code = HttpStatus(error.code);
  if (!exchange_->started()) return RespondError(*exchange_, code, error.message, error.param);
  std::string response = ",\"response\":";
  AppendResponse(response, Status::kFailed, nullptr, &error);
  AppendEvent("response.failed", response);
  Flush();
  exchange_->EndStream(true);
}

}  // namespace penstock
