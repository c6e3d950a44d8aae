// Some columns of a linear layer's weight, as a layer of its own: what a rank multiplies that has
// only these inputs.
// Owns a copy, or a reference to the whole. Must not know what the layer is for.
// Threads: value.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "model/tensor_source.h"

namespace penstock {

/// Columns [begin, begin + count). Codes are cut between groups of columns: INVALID_ARGUMENT, with
/// `name`, where a cut is within one, or where columns have an order of their own.
absl::StatusOr<HostLinear> SliceColumns(const HostLinear& whole, int64_t begin, int64_t count,
                                        const std::string& name);

}  // namespace penstock
