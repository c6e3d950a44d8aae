// What a caller asks of an engine, and what it gets back: plain values.
// Owns its vectors. Must not know text, tensors or the wire.
// Threads: value.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "penstock/grammar.h"
#include "penstock/types.h"

namespace penstock {

/// How one token is drawn. The order of the rules is: logit_bias, penalties, min_tokens and masks,
/// temperature, min_p, top_k, top_p (on the renormalised rest), then the Gumbel argmax over what is
/// left.
struct SamplingParams {
  float temperature = 1.0f;         // 0: greedy; [0, 2] on the wire
  int32_t top_k = 0;                // 0: off
  float top_p = 1.0f;               // (0, 1]; 1: off
  float min_p = 0.0f;               // [0, 1]; 0: off; relative to the most likely token
  float repetition_penalty = 1.0f;  // > 0; 1: off; over prompt and output (Keskar et al. 2019)
  float presence_penalty = 0.0f;    // [-2, 2]; over output only
  float frequency_penalty = 0.0f;   // [-2, 2]; over output only
  std::vector<std::pair<TokenId, float>> logit_bias;  // added to the logits; [-100, 100]
  std::vector<TokenId> allowed_token_ids;             // empty: all
  std::vector<std::vector<TokenId>> bad_words;  // the last id cannot be drawn after the others
  uint64_t seed =
      0;  // Philox4x32-10 key; counter = (position, vocabulary index / 4), word index % 4
  int32_t num_logprobs = -1;  // -1: none; 0: the sampled token's only; n: and the n most likely
  std::vector<TokenId> logprob_token_ids;  // log-probs of these as well
  int32_t min_tokens = 0;                  // stop ids cannot be drawn before so many output tokens

  bool greedy() const { return temperature == 0.0f; }
  bool needs_history() const { return needs_counts() || !bad_words.empty(); }
  bool needs_counts() const {
    return repetition_penalty != 1.0f || presence_penalty != 0.0f || frequency_penalty != 0.0f;
  }
};

enum class OutputKind : uint8_t { kNone, kToken, kPromptLogprobs, kHidden };

/// One request: immutable once submitted. `n > 1` on the wire is n of these.
struct GenerateRequest {
  std::vector<TokenId> prompt;  // at least one id, each in [0, vocabulary)
  int32_t max_tokens = 16;      // output tokens at most; prompt + max_tokens <= context
  SamplingParams sampling;
  std::vector<TokenId> stop_token_ids;  // end it (kStop); with the model's eos unless ignore_eos
  int32_t priority = 0;                 // lower runs earlier
  std::string tenant;                   // who shares fairly within a priority
  std::optional<absl::Time> deadline;   // engine clock; past it: kDeadline
  std::optional<absl::Time> first_token_deadline;  // as `deadline`, until the first token is out
  absl::Duration queue_ttl;  // waiting longer for the first step: kDeadline; 0: no limit
  std::string cache_salt;    // prefix blocks are shared only under an equal salt
  AdapterId adapter = kNoAdapter;
  OutputKind output = OutputKind::kToken;  // or kPromptLogprobs (and tokens), kHidden (embedding)
  int32_t second_segment = 0;  // encoders: first position of the second text of a pair; 0: none
  int32_t num_prompt_logprobs = 0;              // with kPromptLogprobs: and the n most likely
  std::shared_ptr<const TokenGrammar> grammar;  // what the output must match; null: anything
};

struct TokenLogprob {
  TokenId id = 0;
  float logprob = 0;  // natural log
  int32_t rank = 0;   // 1: the most likely
};

inline constexpr float kNotComputed = std::numeric_limits<float>::quiet_NaN();

/// One drawn token. Log-probs are those of the raw model distribution (before penalties and
/// temperature), as in vLLM.
struct SampledToken {
  TokenId id = 0;
  float logprob = kNotComputed;    // of `id`; only where num_logprobs >= 0
  int32_t rank = 0;                // of `id`; only where num_logprobs >= 0
  float entropy = kNotComputed;    // nats; only where the executor computes it
  float top1_prob = kNotComputed;  // only where the executor computes it
  std::vector<TokenLogprob> top;   // the num_logprobs most likely, then logprob_token_ids
};

/// What a request yields beside tokens.
struct RequestOutput {
  OutputKind kind = OutputKind::kNone;
  int32_t begin = 0;  // first prompt position that `prompt_logprobs` describes
  std::vector<SampledToken> prompt_logprobs;  // [n]: the token at begin + i, given those before
  std::vector<float> hidden;  // [hidden], final norm applied, pooled as the model says; of a
                              // classifier [num_labels]
};

/// What a request cost; times by the engine's clock.
struct Usage {
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;      // of the prompt, found in the prefix cache at first admission
  int32_t completion_tokens = 0;  // handed to the sink
  int32_t num_preemptions = 0;
  TokenId stop_token = -1;      // with kStop: the id that stopped it
  bool grammar_open = false;    // with kLength: its grammar asks for more
  absl::Duration queue_time;    // submitted -> first planned
  absl::Duration prefill_time;  // first planned -> first token
  absl::Duration decode_time;   // first token -> last token
};

}  // namespace penstock
