// A device that keeps nothing: loading onto it checks every tensor of a model and counts what the
// weights hold.
// Owns counts. Must not know models.
// Threads: confined to the loading thread.
#pragma once

#include "base/status_macros.h"
#include "penstock/backend.h"

namespace penstock {

class CountingDevice final : public Device {
 public:
  std::string_view name() const override { return "none"; }
  Ops& ops() override { CHECK(false); }
  /// Of no bytes, whatever is asked for.
  absl::StatusOr<DeviceBuffer> Allocate(size_t) override { return DeviceBuffer(); }
  absl::StatusOr<DeviceBuffer> AllocateHost(size_t) override { return DeviceBuffer(); }
  bool shares_host_memory() const override { return true; }
  void CopyToDevice(void*, const void*, size_t bytes) override {
    num_values_ += static_cast<int64_t>(bytes / sizeof(float));
  }
  void CopyOnDevice(void*, const void*, size_t) override {}
  void CopyToHost(void*, const void*, size_t) override {}
  absl::StatusOr<PackedLinear> Pack(int64_t k, absl::Span<const LinearPart> parts) override {
    PackedLinear packed;
    packed.k = k;
    for (const LinearPart& part : parts) {
      packed.n += part.rows;
      num_values_ += part.rows * (k + (part.bias != nullptr ? 1 : 0));
    }
    return packed;
  }
  absl::Status Synchronize() override { return absl::OkStatus(); }

  /// Weights of linear layers and vectors so far; tables are not packed and not counted.
  int64_t num_values() const { return num_values_; }

 private:
  int64_t num_values_ = 0;
};

}  // namespace penstock
