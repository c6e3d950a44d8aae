// Puts a linear layer's rows into panels for the CPU's kernels, and says where what lies in them.
// Owns nothing. Must not know models or files.
// Threads: confined to the loading thread; rows are read on the pool.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "backend/cpu/choose_kernels.h"
#include "backend/cpu/kernels.h"
#include "backend/linear_rows.h"
#include "base/worker_pool.h"
#include "penstock/backend.h"

namespace penstock {

/// Where in its segment's bytes a panel and its parts lie. A segment is its book (float32 [1 <<
/// bits]), its column order (int32 [k]) and its panels, each on a multiple of 64 bytes. A panel of
/// codes is its groups, one after the other: scales [panel_rows], offsets (likewise), codes; so that
/// one token reads a single stream. Where a unit of codes is not of one group, it is all scales, all
/// offsets, all codes.
struct SegmentLayout {
  SegmentLayout(const LinearSegment& segment, int64_t k, int64_t panel_rows);

  int64_t num_panels = 0;
  size_t order_begin = 0;
  size_t panels_begin = 0;
  size_t panel_bytes = 0;
  size_t offsets_begin = 0;   // in a panel, whose scales are its begin
  size_t codes_begin = 0;     // in a panel
  int64_t scales_stride = 0;  // these as in CodePanel
  int64_t offsets_stride = 0;
  int64_t group_gap = 0;
  size_t bytes = 0;  // of the segment
};

/// Puts segments whose types are known one after the other; the bytes of all.
size_t PlaceSegments(int64_t k, const KernelChoice& kernels, std::vector<LinearSegment>& segments);

/// The segments of `parts` with the types of their scales; reads all of these.
std::vector<LinearSegment> PlanSegments(absl::Span<const LinearPart> parts,
                                        const KernelChoice& kernels, WorkerPool& pool);

/// Fills `packed.weight`, which is large enough, as packed.segments say.
void FillPanels(absl::Span<const LinearPart> parts, const KernelChoice& choice, WorkerPool& pool,
                PackedLinear& packed);

}  // namespace penstock
