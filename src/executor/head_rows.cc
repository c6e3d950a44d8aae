#include "executor/head_rows.h"

#include "base/status_macros.h"

namespace penstock {

absl::Status Grow(Device& device, size_t bytes, DeviceBuffer& buffer) {
  if (buffer.bytes() >= bytes) return absl::OkStatus();
  ASSIGN_OR_RETURN(buffer, device.Allocate(bytes));
  return absl::OkStatus();
}

absl::StatusOr<Tensor> HeadOf(const HeadWork& work, absl::Span<const int32_t> rows, int32_t width,
                              DeviceBuffer& buffer) {
  const auto n = static_cast<int64_t>(rows.size());
  RETURN_IF_ERROR(Grow(*work.device, n * work.hidden * DTypeSize(work.dtype), *work.gathered));
  RETURN_IF_ERROR(Grow(*work.device, n * width * sizeof(float), buffer));
  const Tensor x{work.gathered->data(), work.dtype, n, work.hidden, work.hidden};
  const Tensor logits{buffer.data(), DType::kFloat32, n, width, width};
  work.device->ops().GatherRows(work.network->hidden(), rows, x);
  work.network->FinalNorm(x, x);
  work.network->Logits(x, rows, logits);
  RETURN_IF_ERROR(work.network->status());  // a rank that stands still may have these rows yet
  return logits;
}

}  // namespace penstock
