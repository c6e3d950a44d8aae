#include "api/openai/http_answer.h"

#include <algorithm>
#include <utility>

#include "api/http/json_text.h"
#include "api/http/limit_headers.h"
#include "api/http/router.h"
#include "service/call_error.h"

namespace penstock {
namespace {

template <class T>
void MoveTo(std::vector<T>& to, std::vector<T>& from) {
  if (to.empty()) {
    to = std::move(from);
  } else {
    std::move(from.begin(), from.end(), std::back_inserter(to));
  }
}

}  // namespace

void HttpAnswer::OnStart(ResponseStart start) {
  AddStartHeaders(*exchange_, start);
  if (start.model->tokenizer == nullptr) shape_.return_token_ids = true;
  if (!shape_.stream) {
    choices_.resize(start.num_choices);
    for (int32_t i = 0; i < start.num_choices; ++i) choices_[i].index = i;
  }
  writer_.emplace(shape_, std::move(start));
}

void HttpAnswer::OnDeltas(absl::Span<Delta> deltas) {
  if (shape_.stream) {
    events_.clear();
    for (const Delta& delta : deltas) writer_->AppendEvent(events_, delta);
    exchange_->StartStream(kEventStream);
    exchange_->Write(events_);
    return;
  }
  for (Delta& delta : deltas) {
    Delta& choice = choices_[delta.index];
    choice.text += delta.text;
    choice.reasoning += delta.reasoning;
    for (CallDelta& call : delta.calls) {
      if (!choice.calls.empty() && choice.calls.back().index == call.index) {
        choice.calls.back().arguments += call.arguments;
      } else {
        choice.calls.push_back(std::move(call));
      }
    }
    choice.num_calls = delta.num_calls;
    MoveTo(choice.tokens, delta.tokens);
    MoveTo(choice.prompt_logprobs, delta.prompt_logprobs);
    choice.completion_tokens = delta.completion_tokens;
    if (!delta.finish) continue;
    choice.finish = delta.finish;
    choice.stop_token = delta.stop_token;
    choice.stop_string = std::move(delta.stop_string);
    choice.warnings = std::move(delta.warnings);
  }
}

void HttpAnswer::OnEnd(const ResponseEnd& end) {
  if (end.error) return OnError(*end.error);
  if (!shape_.stream) {
    HttpResponse response;
    response.body = writer_->Body(choices_, end.usage);
    return exchange_->Respond(std::move(response));
  }
  events_.clear();
  if (shape_.include_usage) writer_->AppendUsageEvent(events_, end.usage);
  events_ += "data: [DONE]\n\n";
  exchange_->StartStream(kEventStream);
  exchange_->Write(events_);
  exchange_->EndStream(false);
}

void HttpAnswer::OnError(const CallError& error) {
  const int status = HttpStatus(error.code);
  if (!exchange_->started()) return RespondError(*exchange_, status, error.message, error.param);
  exchange_->Write("data: " + ErrorBody(status, error.message, error.param) + "\n\n");
  exchange_->EndStream(true);
}

}  // namespace penstock
