// Compares a model with reference logits in every way in which a server computes a prompt.
// Owns nothing. Must not know the command line.
// Threads: confined to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "executor/load_model.h"
#include "executor/model_runner.h"

namespace penstock {

struct GoldenPrompt {
  std::vector<TokenId> ids;     // [n]
  std::vector<float> logits;    // [n, vocab]
  std::vector<TokenId> greedy;  // [g]: continuation
  std::vector<float> gap;       // [g]: best minus second-best logit of each
};

/// Reads p<i>.ids, p<i>.logits, p<i>.greedy, p<i>.gap for i from 0 on.
absl::StatusOr<std::vector<GoldenPrompt>> LoadGolden(const std::string& path, int32_t vocab_size);

/// What a run must reach. Errors are |ours - reference| / |reference|.
struct GoldenTolerance {
  double prompt = 1e-4;  // over a prompt's logits (float32)
  double median = 0;     // over positions of prompts of 5 tokens or more (bfloat16); 0: not judged
  double p90 = 0;        // 0: not judged
  double at_least = 0;   // a run closer than this to the reference was not of the type it claims
  float gap = 0.05f;     // greedy tokens must agree up to the first step with a smaller gap
  static GoldenTolerance For(const ModelConfig& config, DType dtype);
};

struct GoldenResult {
  size_t prompt = 0;
  std::string way;  // whole, chunk1, chunk7, chunk16, batched, prefix_hit, preempted
  int32_t num_tokens = 0;
  double error = 0;
  double median = 0;  // of the positions' errors
  double p90 = 0;
  bool same_bits = false;       // as in the way `whole`
  int32_t greedy_equal = 0;     // leading tokens that agree
  int32_t greedy_required = 0;  // leading tokens that must
  bool passed = false;
};

struct GoldenReport {
  std::vector<GoldenResult> results;
  double median = 0;  // over all ways, positions of prompts of 5 tokens or more
  double p90 = 0;
  bool passed = false;
};

/// Whose logits the references are, and who is beside them in a batch.
struct GoldenAdapters {
  std::shared_ptr<AdapterStore> store;  // null: there are none
  AdapterId own = kNoAdapter;
  std::vector<AdapterId> strangers = {kNoAdapter};  // in turn
};

/// Runs every prompt in every way, or, where `ways` names some, in those after `whole`. `dtype` is of
/// activations and KV.
absl::StatusOr<GoldenReport> CheckGolden(LoadedModel* model, DType dtype,
                                         const std::vector<GoldenPrompt>& prompts,
                                         const GoldenAdapters& adapters = {},
                                         absl::Span<const std::string> ways = {});

}  // namespace penstock
