// Draws a token from one row of logits by the rule of SamplingParams, and scores tokens.
// Owns nothing. Must not know slots or sequences.
// Threads: thread-safe.
#pragma once

#include "absl/types/span.h"
#include "penstock/backend.h"
#include "penstock/request.h"

namespace penstock {

/// id -1 where no logit is a number. Where the masks leave nothing, min_tokens gives way, then
/// allowed_token_ids.
SampledToken SampleToken(absl::Span<const float> logits, const SampleRow& row);

/// Fills logprob and rank of token.id, and `top`: the num_top most likely, then `also`. NaN counts
/// as impossible.
void ScoreToken(absl::Span<const float> logits, int32_t num_top, absl::Span<const TokenId> also,
                SampledToken& token);

/// The Gumbel noise of vocabulary entry `token` at `position`: word token % 4 of the Philox block
/// {token / 4, position, 0, 0} under the key `seed`.
float GumbelNoise(uint64_t seed, int32_t position, TokenId token);

}  // namespace penstock
