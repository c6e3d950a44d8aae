// The smallest type that holds all of a set of scales exactly: e8m0, bfloat16, float16 or float32.
// Owns nothing. Must not know matrices.
// Threads: value.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "penstock/types.h"

namespace penstock {

class ScaleType {
 public:
  void Add(absl::Span<const float> scales);
  void Add(const ScaleType& other);
  /// kFloat8E8M0 stands for 2^-126 to 2^127.
  DType Get() const;

 private:
  bool power_of_two_ = true;
  bool bf16_ = true;
  bool fp16_ = true;
};

/// `type` holds `scale` exactly.
void StoreScale(DType type, float scale, void* to);

}  // namespace penstock
