// What mixtures of experts work on: which experts a row goes to, the list of an expert's visitors,
// the products of each expert with its own, and the sum of a row's experts.
// Owns nothing; pointers are device memory. Plain C++, so that g++ compiles it without the toolkit.
// Must not know classes of the server.
// Threads: value.
#pragma once

#include <algorithm>
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
  int32_t group_best = 2;  // 1 or 2
  float scale = 1.0f;
  float shared_scale = 1.0f;
  const float* score_bias = nullptr;  // [num_experts]; null: none
  SharedExpert shared = SharedExpert::kNone;
  int32_t* ids = nullptr;    // [rows, slots], slots = top_k + (shared != kNone)
  float* weights = nullptr;  // as ids
};

/// Who visits whom. A visit is a row's slot, row * slots + slot; of each expert they are in order.
struct ExpertList {
  int32_t* order = nullptr;       // [visits], expert after expert
  int32_t* blocks = nullptr;      // [MostExpertBlocks, 3]: expert, where its visits begin and end
  int32_t* num_blocks = nullptr;  // [1]
};
/// Of at most block_rows visits each.
inline int32_t MostExpertBlocks(int32_t visits, int32_t num_experts, int32_t block_rows) {
  return std::min(visits, num_experts + visits / block_rows);
}

struct ExpertListArgs {
  const int32_t* ids = nullptr;  // [visits]; one that is not of these experts visits nobody
  int32_t visits = 0;
  int32_t first_expert = 0;  // which the list calls 0
  int32_t num_experts = 0;   // at most kMostExperts
  int32_t block_rows = 0;    // ExpertBlockRows
  ExpertList list;
};

/// Row v of y is row v / x_slots of x times the expert of visit v.
struct ExpertGemmArgs {
  GemmArgs gemm;  // of one expert, without w, bias, w_scales and work; m: rows of x
  const void* const* weights = nullptr;    // [num_experts]
  const float* const* w_scales = nullptr;  // [num_experts]; null: none
  const float* const* bias = nullptr;      // [num_experts]; null: none
  ExpertList list;
  int32_t block_rows = 0;  // ExpertBlockRows
  int32_t x_slots = 1;     // 1: x has a row of each visit
  int32_t ctas = 1;        // that work at once
};
/// How many of an expert's visits are multiplied together. A row visits an expert once.
inline int32_t ExpertBlockRows(int32_t rows) { return rows <= 8 ? 8 : rows <= 16 ? 16 : 32; }

/// y[r] += sum over a row's slots, in order, of weight * out
struct ExpertSumArgs {
  const float* out = nullptr;      // [rows, slots, width]
  const float* weights = nullptr;  // [rows, slots]
  void* y = nullptr;               // [rows, width] element
  int64_t y_stride = 0;
  int32_t rows = 0;
  int32_t slots = 0;
  int32_t width = 0;
  Element element = Element::kBFloat16;
};

}  // namespace penstock::PENSTOCK_KERNELS
