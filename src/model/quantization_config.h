// What a config.json says about the form of quantised layers, in one form whatever the method.
// Owns its strings. Must not know tensors or devices.
// Threads: value.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "model/name_pattern.h"

namespace penstock {

/// How a layer's tensors hold its codes.
enum class CodeStorage : uint8_t {
  kGptq,    // qweight packs along k; qzeros, scales, g_idx
  kAwq,     // qweight packs along rows, interleaved; qzeros, scales
  kPacked,  // weight_packed along k; weight_scale, weight_shape, weight_zero_point, weight_g_idx
  kInt8,    // weight int8; weight_scale, weight_zero_point
  kFloat8,  // weight float8_e4m3; weight_scale or weight_scale_inv
  kMxfp4,   // stacked experts: _blocks, _scales
};

struct QuantScheme {
  CodeStorage storage = CodeStorage::kGptq;
  int32_t bits = 4;
  int64_t group = 0;           // columns that share a scale; 0: the row
  int64_t block_rows = 0;      // rows that share a scale; 0: one where `per_tensor` is false
  bool per_tensor = false;     // one scale for all
  bool symmetric = true;       // else there are zero points
  bool zero_minus_one = true;  // kGptq: zero points are stored less one
};

struct QuantizationConfig {
  std::string method;  // empty: nothing is quantised
  struct Group {
    std::vector<NamePattern> targets;  // empty: every layer
    QuantScheme scheme;
  };
  std::vector<Group> groups;
  std::vector<NamePattern> excluded;

  /// The scheme of a layer (a name without ".weight"), null where it is not to be quantised.
  const QuantScheme* SchemeOf(std::string_view layer) const;
};

/// `text` is a whole config.json. UNIMPLEMENTED or INVALID_ARGUMENT name `what`, the key and what
/// was expected.
absl::StatusOr<QuantizationConfig> ParseQuantizationConfig(std::string_view text,
                                                           std::string_view what);

/// `dir`/config.json, or the quantize_config.json beside one that has no such section: older GPTQ
/// checkpoints.
absl::StatusOr<QuantizationConfig> LoadQuantizationConfig(const std::string& dir);

}  // namespace penstock
