// What the head makes of some rows of a network's last pass.
// Owns nothing. Must not know whose rows they are.
// Threads: confined to one rank's thread.
#pragma once

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/network.h"

namespace penstock {

/// Room for so many bytes; what was in the buffer may be lost.
absl::Status Grow(Device& device, size_t bytes, DeviceBuffer& buffer);

/// Where it happens, and in what memory, grown on demand.
struct HeadWork {
  Network* network = nullptr;
  Device* device = nullptr;
  DType dtype = DType::kFloat32;  // of activations
  int64_t hidden = 0;
  DeviceBuffer* gathered = nullptr;  // [rows, hidden]
};

/// Final norm and head of `rows`: float32 [rows, width] in `buffer`.
absl::StatusOr<Tensor> HeadOf(const HeadWork& work, absl::Span<const int32_t> rows, int32_t width,
                              DeviceBuffer& buffer);

}  // namespace penstock
