// From a call's fields and a model's defaults to what an engine is asked for.
// Owns nothing. Must not know text or the wire.
// Threads: thread-safe.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "penstock/service.h"

namespace penstock {

/// Checks of fields against each other and against the model, beside CheckFieldRanges. `max_n`:
/// choices per prompt.
absl::Status CheckFieldsTogether(const GenerationCall& call, const ServedModel& model,
                                 int64_t max_n);

/// Turns bad_words and biases by text into token ids; after CheckFieldsTogether.
absl::Status ResolveTexts(GenerationCall& call, const ServedModel& model);

/// How many log-probs were asked for beside the sampled token's; -1: none.
int32_t NumLogprobs(const GenerationCall& call);

/// Choices that are generated for each prompt: n, or best_of, of which n are given.
int64_t NumCandidates(const GenerationCall& call);

/// As NumLogprobs, of the prompt's tokens, for prompt_logprobs or an echo; -1: none.
int32_t NumPromptLogprobs(const GenerationCall& call);

/// Everything but prompt, seed and deadlines. INVALID_ARGUMENT, with both numbers, where prompt and
/// max_tokens exceed the context.
absl::StatusOr<GenerateRequest> MakeRequest(const GenerationCall& call, const ServedModel& model,
                                            int64_t prompt_tokens);

}  // namespace penstock
