#include "api/grpc/grpc_answer.h"

namespace penstock {
namespace {

ProtoShape ShapeFor(const ServedModel& model, ProtoShape asked) {
  asked.token_ids |= model.tokenizer == nullptr;
  asked.tokenizer = model.tokenizer;
  return asked;
}

// gRPC's calls have one prompt.
template <class Response>
void AddPromptIds(const std::vector<TokenId>& ids, Response& response) {
  response.mutable_prompt_token_ids()->Assign(ids.begin(), ids.end());
}

}  // namespace

template <class Response>
void UnaryAnswer<Response>::OnStart(ResponseStart start) {
  if (!start.headers.empty()) call_->AddTrailers(start.headers);
  shape_ = ShapeFor(*start.model, shape_);
  WriteStart(start, response_);
  if (shape_.token_ids) AddPromptIds(start.prompt_ids.front(), response_);
  for (int32_t i = 0; i < start.num_choices; ++i) {
    Delta first;
    first.index = i;
    AddDelta(first, shape_, true, *response_.add_choices());
  }
}

template <class Response>
void UnaryAnswer<Response>::OnDeltas(absl::Span<Delta> deltas) {
  for (const Delta& delta : deltas) {
    AddDelta(delta, shape_, false, *response_.mutable_choices(delta.index));
    for (const std::string& warning : delta.warnings) response_.add_warnings(warning);
    if (shape_.prompt_logprobs < 0 || delta.index > 0) continue;
    for (const SampledToken& token : delta.prompt_logprobs)
      WritePromptLogprobs(token, shape_, *response_.add_prompt_logprobs());
  }
}

template <class Response>
void UnaryAnswer<Response>::OnEnd(const ResponseEnd& end) {
  if (end.error) return call_->Fail(*end.error);
  WriteUsage(end.usage, *response_.mutable_usage());
  call_->Answer(std::move(response_));
}

template <class Response>
void StreamAnswer<Response>::OnStart(ResponseStart start) {
  if (!start.headers.empty()) call_->AddTrailers(start.headers);
  shape_ = ShapeFor(*start.model, shape_);
  WriteStart(start, common_);
  if (shape_.token_ids) prompt_ids_ = std::move(start.prompt_ids.front());
  begun_.resize(start.num_choices);
}

template <class Response>
void StreamAnswer<Response>::OnDeltas(absl::Span<Delta> deltas) {
  Response piece = common_;
  AddPromptIds(std::exchange(prompt_ids_, {}), piece);
  common_.clear_warnings();
  for (const Delta& delta : deltas) {
    AddDelta(delta, shape_, !begun_[delta.index], *piece.add_choices());
    for (const std::string& warning : delta.warnings) piece.add_warnings(warning);
    begun_[delta.index] = true;
  }
  call_->Push(std::move(piece));
}

template <class Response>
void StreamAnswer<Response>::OnEnd(const ResponseEnd& end) {
  if (end.error) return call_->Fail(*end.error);
  Response last = common_;
  WriteUsage(end.usage, *last.mutable_usage());
  call_->Push(std::move(last));
  call_->Finish();
}

template class UnaryAnswer<v1::GenerateResponse>;
template class UnaryAnswer<v1::ChatResponse>;
template class StreamAnswer<v1::GenerateResponse>;
template class StreamAnswer<v1::ChatResponse>;

}  // namespace penstock
