// What mixtures of experts work on: which experts a row goes to, the list of an expert's visitors,
// the products of each expert with its own, and the sum of a row's experts.
// Owns nothing; pointers are device memory. Plain C++, so that g++ compiles it without the toolkit.
// Must not know classes of the server.
// Threads: value.
#pragma once

#include <cstdint>

#include "kernels/gemm.h"

namespace penstock::PENSTOCK_KERNELS {

constexpr int32_t kMostExperts = 512;
constexpr int32_t kMostChosen = 32;

enum class RouteScore : uint8_t { kSoftmax, kSigmoid, kSoftmaxOfChosen };
enum class SharedExpert : uint8_t { kNone, kAlways, kGated };

/// As RouteArgs in include/penstock/backend.h, whose ids and weights these are, bit for bit.
struct RouterArgs {
  const float* logits = nullptr;  // [rows, num_experts + (shared == kGated)]
  int64_t stride = 0;
  int32_t rows = 0;
  int32_t num_experts = 0;  // at most kMostExperts
  int32_t top_k = 0;        // at most kMostChosen
  RouteScore score = RouteScore::kSoftmax;
  bool normalize = false;
  int32_t num_groups = 1;  // at most 32
  int32_t top_groups = 1;
  float scale = 1.0f;
  const float* score_bias = nullptr;  // [num_experts]; null: none
  SharedExpert shared = SharedExpert::kNone;
  int32_t* ids = nullptr;    // [rows, slots], slots = top_k + (shared != kNone)
  float* weights = nullptr;  // as ids
};

}  // namespace penstock::PENSTOCK_KERNELS
