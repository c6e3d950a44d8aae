#include "api/grpc/grpc_answer.h"

#include "api/grpc/proto_codec.h"

namespace penstock {
void UnaryAnswer::OnStart(ResponseStart start) {
  shape_.token_ids |= start.model->tokenizer == nullptr;
  WriteStart(start, response_);
  for (int32_t i = 0; i < start.num_choices; ++i) response_.add_choices();
}

void UnaryAnswer::OnDeltas(absl::Span<Delta> deltas) {
  for (const Delta& delta : deltas) {
    AddDelta(delta, shape_.token_ids, shape_.logprobs, *response_.mutable_choices(delta.index));
  }
}

void UnaryAnswer::OnEnd(const ResponseEnd& end) {
  if (end.error) return call_->Fail(*end.error);
  WriteUsage(end.usage, *response_.mutable_usage());
  call_->Answer(std::move(response_));
}

void StreamAnswer::OnStart(ResponseStart start) {
  shape_.token_ids |= start.model->tokenizer == nullptr;
  WriteStart(start, common_);
}

void StreamAnswer::OnDeltas(absl::Span<Delta> deltas) {
  v1::GenerateResponse piece = common_;
  for (const Delta& delta : deltas)
    AddDelta(delta, shape_.token_ids, shape_.logprobs, *piece.add_choices());
  call_->Push(std::move(piece));
}

void StreamAnswer::OnEnd(const ResponseEnd& end) {
  if (end.error) return call_->Fail(*end.error);
  v1::GenerateResponse last = common_;
  WriteUsage(end.usage, *last.mutable_usage());
  call_->Push(std::move(last));
  call_->Finish();
}

}  // namespace penstock
