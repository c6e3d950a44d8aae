// Requests with every rule of sampling, run through an engine, and what their answers must share with
// those of another.
// Owns nothing. Must not know who guesses.
// Threads: value.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "base/status_macros.h"
#include "engine/engine_loop.h"

namespace penstock {

inline constexpr int32_t kSpeculatedOutputs = 72;

/// Keeps whole tokens, log-probs and all.
class KeepingSink final : public TokenSink {
 public:
  void OnTokens(absl::Span<const SampledToken> t) override {
    tokens.insert(tokens.end(), t.begin(), t.end());
  }
  void OnOutput(const RequestOutput&) override {}
  void OnDone(FinishReason r, const Usage& u, absl::Status) override {
    reason = r;
    usage = u;
  }
  std::vector<SampledToken> tokens;
  FinishReason reason = FinishReason::kError;
  Usage usage;
};

/// Prompts that say something twice, half of them with one beginning, of tokens [first, first + num).
inline std::vector<TokenId> SpeculatedPrompt(uint32_t seed, TokenId first, int32_t num) {
  const auto noise = [&](uint32_t s, int32_t count) {
    std::vector<TokenId> ids;
    for (; count > 0; --count) {
      s = s * 1664525u + 1013904223u;
      ids.push_back(static_cast<TokenId>(first + (s >> 8) % num));
    }
    return ids;
  };
  std::vector<TokenId> prompt = noise(seed % 2, 40);
  const std::vector<TokenId> passage = noise(seed / 2, 12);
  for (int twice = 0; twice < 2; ++twice)
    prompt.insert(prompt.end(), passage.begin(), passage.end());
  return prompt;
}

/// Each rule of sampling is in one of them; every request comes twice.
inline std::vector<GenerateRequest> SpeculatedRequests(TokenId first, int32_t num) {
  std::vector<GenerateRequest> requests;
  for (uint32_t i = 0; i < 20; ++i) {
    GenerateRequest r;
    const uint32_t kind = i % 10;
    r.prompt = SpeculatedPrompt(kind, first, num);
    r.max_tokens = kSpeculatedOutputs - static_cast<int32_t>(i % 3);
    r.sampling.seed = 100 + kind;
    r.sampling.temperature = kind < 4 ? 0.0f : 0.7f;
    if (kind == 1) r.sampling.num_logprobs = 3;
    if (kind == 2) r.sampling.repetition_penalty = 1.1f;
    if (kind == 3) r.sampling.frequency_penalty = 0.2f;
    if (kind == 5) r.sampling.presence_penalty = 0.1f;
    if (kind == 6) r.sampling.top_p = 0.8f;
    if (kind == 7) r.sampling.top_k = 20;
    if (kind == 8) r.sampling.min_p = 0.1f;
    if (kind == 8) r.sampling.num_logprobs = 0;
    if (kind == 9) r.sampling.logit_bias = {{20, 4.0f}, {std::min(300, first + num - 1), -100.0f}};
    requests.push_back(r);
  }
  return requests;
}

/// All of them at once; `next_id` numbers them. `cancel_every`: so many turns, one is cancelled.
inline std::vector<std::shared_ptr<KeepingSink>> RunSpeculated(
    EngineLoop& engine, const std::vector<GenerateRequest>& requests, uint64_t& next_id,
    int32_t cancel_every = 0) {
  std::vector<std::shared_ptr<KeepingSink>> sinks;
  for (const GenerateRequest& request : requests) {
    sinks.push_back(std::make_shared<KeepingSink>());
    CHECK(engine.Submit(RequestId{next_id++}, request, sinks.back()).ok());
  }
  for (int32_t turn = 1; engine.RunOnce(); ++turn) {
    if (cancel_every > 0 && turn % cancel_every == 0)
      engine.Cancel(RequestId{next_id - 1 - (turn / cancel_every) % requests.size()});
  }
  return sinks;
}

inline void ExpectPrefix(const std::vector<SampledToken>& part,
                         const std::vector<SampledToken>& whole) {
  ASSERT_LE(part.size(), whole.size());
  for (size_t i = 0; i < part.size(); ++i) {
    ASSERT_EQ(part[i].id, whole[i].id) << "output " << i;
    ASSERT_EQ(part[i].rank, whole[i].rank) << "output " << i;
    ASSERT_EQ(part[i].top.size(), whole[i].top.size());
    if (part[i].rank > 0) {
      ASSERT_EQ(part[i].logprob, whole[i].logprob) << "output " << i;
    }
    for (size_t j = 0; j < part[i].top.size(); ++j) {
      ASSERT_EQ(part[i].top[j].id, whole[i].top[j].id);
      ASSERT_EQ(part[i].top[j].logprob, whole[i].top[j].logprob);
    }
  }
}

}  // namespace penstock
