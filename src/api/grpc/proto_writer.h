// Deltas and vectors -> protobuf answers.
// Owns nothing. Must not know gRPC.
// Threads: thread-safe.
#pragma once

#include "penstock/service.h"
#include "service/embedding_stream.h"

namespace penstock {

namespace v1 {
class ChatChoice;
class Choice;
class EmbedResponse;
class TokenLogprobs;
class Usage;
}  // namespace v1

/// Which of a delta's tokens the client wants.
struct ProtoShape {
  bool token_ids = false;
  bool logprobs = false;
  bool echo = false;                     // the prompt's log-probabilities go before the output's
  int32_t num_logprobs = 0;              // most likely tokens beside each of an echo
  int32_t prompt_logprobs = -1;          // the same of prompt_logprobs; -1: none
  const Tokenizer* tokenizer = nullptr;  // of the texts beside log-probabilities; null: none
};

/// Appends to `choice` what the delta brings. `first`: of this choice.
void AddDelta(const Delta& delta, const ProtoShape& shape, bool first, v1::Choice& choice);
void AddDelta(const Delta& delta, const ProtoShape& shape, bool first, v1::ChatChoice& choice);
/// One token of the prompt.
void WritePromptLogprobs(const SampledToken& token, const ProtoShape& shape,
                         v1::TokenLogprobs& row);
void WriteUsage(const UsageTotals& totals, v1::Usage& usage);
void WriteEmbeddings(const EmbeddingResult& result, v1::EmbedResponse& response);

/// Id, model and time of a GenerateResponse or ChatResponse.
template <class Response>
void WriteStart(const ResponseStart& start, Response& response) {
  response.set_id(start.request_id);
  response.set_model(start.model_name);
  response.set_created(start.created);
  response.mutable_warnings()->Assign(start.warnings.begin(), start.warnings.end());
}

}  // namespace penstock
