// A plain matrix rounded to integer codes as it is read: what `quantize` does at load.
// Owns a reference to the plain matrix. Must not know what the matrix is for.
// Threads: immutable.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "backend/quantized_rows.h"
#include "model/tensor_source.h"

namespace penstock {

/// Codes of `bits` bits with a scale for each `group` columns (0: for each row).
struct RoundingRule {
  int32_t bits = 0;  // 4 or 8; 0: nothing is rounded
  int64_t group = 0;
};

/// "none", "int8", "int4" (groups of 32), "int4-128" or "int8-channel"; INVALID_ARGUMENT otherwise.
absl::StatusOr<RoundingRule> ParseRoundingRule(std::string_view name);

/// Of 8 bits: code = 128 + rint(w / scale), scale = max |w| / 127, of groups rounded to bfloat16. Of
/// 4 bits: code = 8 + rint(w / scale), and of the scales that map the largest |w| to -8 or near it
/// the one of the least squared error.
class RoundedRows final : public QuantizedRows {
 public:
  RoundedRows(HostTensor plain, RoundingRule rule);
  void Read(int64_t begin, int64_t num_rows, uint8_t* codes, float* scales,
            float* offsets) const override;
  std::optional<DType> scale_type() const override;

 private:
  HostTensor plain_;
};

}  // namespace penstock
