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
                  ",\"output_tokens_details\":{\"reasoning_tokens\":", usage.reasoning_tokens,
                  "},\"total_tokens\":", usage.prompt_tokens + usage.completion_tokens, "}");
}

}  // namespace

// The ids are our own, whatever the request is called: a client cannot choose what it overwrites.
ResponsesAnswer::ResponsesAnswer(std::shared_ptr<HttpExchange> exchange, ResponseRequest request,
                                 std::shared_ptr<ResponseStore> store)
    : exchange_(std::move(exchange)),
      request_(std::move(request)),
      store_(std::move(store)),
      id_("resp_" + MakeRequestId()),
      owner_(exchange_->request().owner()) {}

void ResponsesAnswer::OnStart(ResponseStart start) {
  AddStartHeaders(*exchange_, start);
  const GenerationDefaults& defaults = start.model->defaults;
  temperature_ = request_.temperature.value_or(defaults.temperature.value_or(1));
  top_p_ = request_.top_p.value_or(defaults.top_p.value_or(1));
  model_name_ = std::move(start.model_name);
  warnings_ = std::move(start.warnings);
  created_ = start.created;
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
  absl::StrAppend(&out, ",\"text\":", request_.text, ",\"tool_choice\":", request_.tool_choice);
  absl::StrAppend(&out, ",\"tools\":", request_.tools);
  out += ",\"top_logprobs\":0,\"top_p\":";
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
  if (status == Status::kCompleted || status == Status::kIncomplete) {
    for (const ResponseItem& item : items_) {
      if (&item != &items_.front()) out += ',';
      AppendResponseItem(out, item, StatusOf(item, status), false);
    }
  }
  out += "],\"usage\":";
  if (usage == nullptr) {
    out += "null";
  } else {
    AppendResponseUsage(out, *usage);
  }
  AppendWarnings(out, warnings_);
  out += '}';
}

std::string_view ResponsesAnswer::StatusOf(const ResponseItem& item, Status status) const {
  const bool cut = status == Status::kIncomplete && &item == &items_.back();
  return cut ? "incomplete" : "completed";
}

std::string ResponsesAnswer::Place() const {
  std::string place =
      absl::StrCat(",\"item_id\":\"", items_.back().id, "\",\"output_index\":", items_.size() - 1);
  if (items_.back().kind != ResponseItem::kCall) place += ",\"content_index\":0";
  return place;
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
}

void ResponsesAnswer::OpenItem() {
  const ResponseItem& item = items_.back();
  std::string added = absl::StrCat(",\"output_index\":", items_.size() - 1, ",\"item\":");
  AppendResponseItem(added, item, "in_progress", true);
  AppendEvent("response.output_item.added", added);
  if (item.kind == ResponseItem::kCall) return;
  std::string part = Place() + ",\"part\":";
  AppendItemPart(part, item.kind, "");
  AppendEvent("response.content_part.added", part);
}

void ResponsesAnswer::CloseItem(Status status) {
  const ResponseItem& item = items_.back();
  std::string text = Place();
  text += item.kind == ResponseItem::kCall      ? ",\"arguments\":"
          : item.kind == ResponseItem::kMessage ? ",\"logprobs\":[],\"text\":"
                                                : ",\"text\":";
  AppendJsonString(text, item.text);
  if (item.kind == ResponseItem::kCall) {
    text += ",\"name\":";
    AppendJsonString(text, item.name);
  }
  AppendEvent(item.kind == ResponseItem::kCall      ? "response.function_call_arguments.done"
              : item.kind == ResponseItem::kMessage ? "response.output_text.done"
                                                    : "response.reasoning_text.done",
              text);
  if (item.kind != ResponseItem::kCall) {
    std::string part = Place() + ",\"part\":";
    AppendItemPart(part, item.kind, item.text);
    AppendEvent("response.content_part.done", part);
  }
  std::string done = absl::StrCat(",\"output_index\":", items_.size() - 1, ",\"item\":");
  AppendResponseItem(done, item, StatusOf(item, status), false);
  AppendEvent("response.output_item.done", done);
}

void ResponsesAnswer::Flush() {
  exchange_->StartStream(kEventStream);
  exchange_->Write(events_);
  events_.clear();
}

ResponseItem& ResponsesAnswer::ItemFor(ResponseItem::Kind kind, const CallDelta* call) {
  const bool goes_on = !items_.empty() && items_.back().kind == kind &&
                       (call == nullptr || items_.back().call == call->index);
  if (goes_on) return items_.back();
  if (request_.stream && !items_.empty()) CloseItem(Status::kCompleted);
  items_.push_back(call == nullptr ? NewItem(kind) : NewItem(*call));
  if (request_.stream) OpenItem();
  return items_.back();
}

void ResponsesAnswer::AddText(ResponseItem& item, std::string_view text) {
  item.text += text;
  if (!request_.stream || text.empty()) return;
  std::string piece = Place();
  piece += item.kind == ResponseItem::kMessage ? ",\"logprobs\":[],\"delta\":" : ",\"delta\":";
  AppendJsonString(piece, text);
  AppendEvent(item.kind == ResponseItem::kCall      ? "response.function_call_arguments.delta"
              : item.kind == ResponseItem::kMessage ? "response.output_text.delta"
                                                    : "response.reasoning_text.delta",
              piece);
}

void ResponsesAnswer::OnDeltas(absl::Span<Delta> deltas) {
  for (const Delta& delta : deltas) {
    if (delta.finish) finish_ = delta.finish;
    warnings_.insert(warnings_.end(), delta.warnings.begin(), delta.warnings.end());
    if (request_.stream && !opened_) AppendOpening();
    if (!delta.reasoning.empty())
      AddText(ItemFor(ResponseItem::kReasoning, nullptr), delta.reasoning);
    if (!delta.text.empty()) AddText(ItemFor(ResponseItem::kMessage, nullptr), delta.text);
    for (const CallDelta& call : delta.calls)
      AddText(ItemFor(ResponseItem::kCall, &call), call.arguments);
  }
  if (request_.stream) Flush();
}

void ResponsesAnswer::Keep(const std::string& body) const {
  if (!request_.store) return;
  auto conversation = std::make_shared<Json>(*request_.conversation);
  conversation->push_back(MessageOf(items_));
  store_->Put(owner_, id_, {body, std::move(conversation), request_.items});
}

void ResponsesAnswer::OnEnd(const ResponseEnd& end) {
  if (end.error) return OnError(*end.error);
  const Status status = finish_ == FinishReason::kLength ? Status::kIncomplete : Status::kCompleted;
  if (request_.stream && !opened_) AppendOpening();
  if (items_.empty()) ItemFor(ResponseItem::kMessage, nullptr);
  HttpResponse response;
  AppendResponse(response.body, status, &end.usage, nullptr);
  Keep(response.body);
  if (!request_.stream) return exchange_->Respond(std::move(response));
  CloseItem(status);
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
