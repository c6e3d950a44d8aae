// The rows of a linear layer's parts as backends pack them: which rows are kept alike, where each
// comes from, and runs of quantised rows.
// Owns nothing. Must not know how a backend lays weights out.
// Threads: thread-safe; reads of quantised rows may run on several threads.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/worker_pool.h"
#include "penstock/backend.h"

namespace penstock {

struct SourceRow {
  size_t part;
  int64_t row;
};

/// The rows of all parts, in order.
std::vector<SourceRow> RowsOfParts(absl::Span<const LinearPart> parts);

/// The segments of `parts`, but for the types that hold their scales and where they lie.
std::vector<LinearSegment> ShapeSegments(absl::Span<const LinearPart> parts);

/// Quantised rows of parts that have one form, into one run of memory; null: not wanted.
void ReadQuantizedRows(absl::Span<const LinearPart> parts, absl::Span<const SourceRow> rows,
                       uint8_t* codes, float* scales, float* offsets);

/// Sets the types that hold a segment's scales and offsets exactly; `rows` are the segment's, not
/// none, read `chunk` at a time.
void FindScaleTypes(absl::Span<const LinearPart> parts, absl::Span<const SourceRow> rows,
                    int64_t chunk, WorkerPool& pool, LinearSegment& segment);

}  // namespace penstock
