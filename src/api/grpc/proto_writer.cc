#include "api/grpc/proto_writer.h"

#include <algorithm>
#include <cmath>

#include "absl/types/span.h"
#include "penstock/v1/inference.pb.h"

namespace penstock {
namespace {

void WriteLogprob(TokenId id, float logprob, int32_t rank, const Tokenizer* tokenizer,
                  v1::TokenLogprob& out) {
  out.set_id(id);
  if (!std::isnan(logprob)) out.set_logprob(logprob);
  out.set_rank(rank);
  if (tokenizer != nullptr) out.set_token(tokenizer->Piece(id));
}

void WriteLogprobs(const SampledToken& token, size_t max_top, const Tokenizer* tokenizer,
                   v1::TokenLogprobs& row) {
  WriteLogprob(token.id, token.logprob, token.rank, tokenizer, *row.mutable_token());
  for (const TokenLogprob& other :
       absl::MakeConstSpan(token.top).first(std::min(max_top, token.top.size())))
    WriteLogprob(other.id, other.logprob, other.rank, tokenizer, *row.add_top());
}

// All but the text.
template <class Choice>
void AddTokensAndEnd(const Delta& delta, const ProtoShape& shape, Choice& choice) {
  choice.set_index(delta.index);
  if (shape.logprobs && shape.echo) {
    for (const SampledToken& token : delta.prompt_logprobs)
      WriteLogprobs(token, shape.num_logprobs, shape.tokenizer, *choice.add_logprobs());
  }
  for (const SampledToken& token : delta.tokens) {
    if (shape.token_ids) choice.add_token_ids(token.id);
    if (shape.logprobs)
      WriteLogprobs(token, token.top.size(), shape.tokenizer, *choice.add_logprobs());
  }
  if (!delta.finish) return;
  choice.set_finish_reason(*delta.finish == FinishReason::kLength ? v1::FINISH_REASON_LENGTH
                                                                  : v1::FINISH_REASON_STOP);
  if (!delta.stop_string.empty()) {
    choice.set_stop_string(delta.stop_string);
  } else if (delta.stop_token >= 0) {
    choice.set_stop_token_id(delta.stop_token);
  }
}

void AddCall(const CallDelta& delta, v1::AssistantMessage& message) {
  const int last = message.tool_calls_size() - 1;
  const bool goes_on = last >= 0 && message.tool_calls(last).index() == delta.index;
  v1::ToolCall& call = goes_on ? *message.mutable_tool_calls(last) : *message.add_tool_calls();
  call.set_index(delta.index);
  call.mutable_id()->append(delta.id);
  call.mutable_name()->append(delta.name);
  call.mutable_arguments()->append(delta.arguments);
}

}  // namespace

void AddDelta(const Delta& delta, const ProtoShape& shape, bool, v1::Choice& choice) {
  choice.mutable_text()->append(delta.text);
  AddTokensAndEnd(delta, shape, choice);
}

void AddDelta(const Delta& delta, const ProtoShape& shape, bool first, v1::ChatChoice& choice) {
  if (first) choice.mutable_message()->set_role("assistant");
  v1::AssistantMessage& message = *choice.mutable_message();
  message.mutable_content()->append(delta.text);
  message.mutable_reasoning_content()->append(delta.reasoning);
  for (const CallDelta& call : delta.calls) AddCall(call, message);
  AddTokensAndEnd(delta, shape, choice);
  if (delta.finish == FinishReason::kStop && delta.num_calls > 0)
    choice.set_finish_reason(v1::FINISH_REASON_TOOL_CALLS);
}

void WritePromptLogprobs(const SampledToken& token, const ProtoShape& shape,
                         v1::TokenLogprobs& row) {
  WriteLogprobs(token, shape.prompt_logprobs, shape.tokenizer, row);
}

void WriteUsage(const UsageTotals& totals, v1::Usage& usage) {
  usage.set_prompt_tokens(totals.prompt_tokens);
  usage.set_completion_tokens(totals.completion_tokens);
  usage.set_cached_tokens(totals.cached_tokens);
  usage.set_reasoning_tokens(totals.reasoning_tokens);
}

void WriteEmbeddings(const EmbeddingResult& result, v1::EmbedResponse& response) {
  response.set_id(result.request_id);
  response.set_model(result.model_name);
  response.set_created(result.created);
  for (const std::vector<float>& vector : result.vectors) {
    v1::Embedding* embedding = response.add_embeddings();
    embedding->set_index(response.embeddings_size() - 1);
    embedding->mutable_values()->Assign(vector.begin(), vector.end());
  }
  WriteUsage(result.usage, *response.mutable_usage());
}

}  // namespace penstock
