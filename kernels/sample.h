// What the sampling kernels work on. A row's token depends on its own logits, seed and position alone.
// Owns nothing; pointers are device memory. Plain C++, so that g++ compiles it without the toolkit.
// Must not know requests.
// Threads: value.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/namespace.h"

namespace penstock::PENSTOCK_KERNELS {

/// One row to draw from; the rule is SampleToken's (backend/cpu/sample.h).
struct ScanRow {
  int64_t row = 0;           // of the logits
  uint64_t seed = 0;         // of the noise
  int32_t position = 0;      // that the drawn token will have
  float temperature = 0.0f;  // 0: the most likely
  float repetition_penalty = 1.0f;
  float frequency_penalty = 0.0f;
  float presence_penalty = 0.0f;
  // Of rows to LaunchFilter, which are not greedy: what is kept, in this order.
  float log_min_p = -std::numeric_limits<float>::infinity();  // what is so far below the best
  int32_t top_k = 0;                                          // the most likely; 0: all
  float top_p = 1.0f;  // the most likely that have this share of the rest; 1: all
  int32_t num_bias = 0;
  int32_t num_banned = 0;
  int32_t num_allowed = 0;            // 0: all
  const int32_t* counts = nullptr;    // [2, vocab]: occurrences in the prompt, in the output; null:
                                      // no penalties
  const uint32_t* mask = nullptr;     // [ceil(vocab / 32)] allowed tokens; null: all
  const int32_t* bias_ids = nullptr;  // [num_bias]
  const float* bias = nullptr;        // [num_bias], each added to its id's logit
  const int32_t* banned = nullptr;    // [num_banned]: gives way where nothing else is left
  const int32_t* allowed = nullptr;   // [num_allowed]: gives way after that
};

/// The best of a part of a row, under one set of rules.
struct ScanBest {
  float score;
  int32_t id;  // -1: none
};
constexpr int kScanRules = 3;    // all; without `banned`; without `allowed` either
constexpr int kScanPart = 4096;  // of a row, to a block

struct ScanArgs {
  const float* logits = nullptr;  // [., vocab]
  int64_t stride = 0;
  int32_t vocab = 0;
  const ScanRow* rows = nullptr;  // [num_rows]
  int32_t num_rows = 0;
  ScanBest* partial = nullptr;  // [num_rows, ceil(vocab / kScanPart), kScanRules], scratch
  int32_t* tokens = nullptr;    // [num_rows]; -1: the row holds no number
};

struct FilterArgs {
  ScanArgs scan;
  float* scaled = nullptr;  // [num_rows, vocab], scratch
};

struct TokenScore {
  int32_t id;
  int32_t rank;  // 1: no logit is higher
  float logprob;
};
constexpr int kMostTop = 2048;

/// One row whose tokens are scored, as ScoreToken does (backend/cpu/sample.h); ids are in [0, vocab).
struct ScoreRow {
  int64_t row = 0;                 // of the logits
  const int32_t* token = nullptr;  // [1]; -1: none
  int32_t num_top = 0;             // at most kMostTop; more than vocab: all
  int32_t num_also = 0;
  const int32_t* also = nullptr;  // [num_also]
  TokenScore* scores = nullptr;   // [1 + num_top + num_also]: of the token, of the most likely from
                                  // the first on, of `also`; id -1: none
};

struct ScoreArgs {
  const float* logits = nullptr;  // [., vocab]
  int64_t stride = 0;
  int32_t vocab = 0;
  const ScoreRow* rows = nullptr;  // [num_rows]
  int32_t num_rows = 0;
};

}  // namespace penstock::PENSTOCK_KERNELS
