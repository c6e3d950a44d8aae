// A device that holds and computes nothing: a model loaded onto it says how many bytes it would take
// on the device that it stands for, which need not be there.
// Owns a count. Must not know models.
// Threads: confined to the loading thread; rows are read on the pool.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "penstock/backend.h"

namespace penstock {

class PlanningDevice final : public Device {
 public:
  /// The bytes and the segments of a layer that is packed, without its bias.
  using Packing = std::function<size_t(int64_t k, absl::Span<const LinearPart> parts,
                                       std::vector<LinearSegment>& segments)>;

  PlanningDevice(std::string name, bool shares_host_memory, Packing packing)
      : name_(std::move(name)),
        shares_host_memory_(shares_host_memory),
        packing_(std::move(packing)) {}

  std::string_view name() const override { return name_; }
  Ops& ops() override;  // there are none: a broken invariant
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override;
  /// Not of the device's memory: does not count.
  absl::StatusOr<DeviceBuffer> AllocateHost(size_t bytes) override;
  bool shares_host_memory() const override { return shares_host_memory_; }
  void CopyToDevice(void*, const void*, size_t) override {}
  void CopyOnDevice(void*, const void*, size_t) override {}
  void CopyToHost(void*, const void*, size_t) override {}
  absl::StatusOr<PackedLinear> Pack(int64_t k, absl::Span<const LinearPart> parts) override;
  absl::Status Synchronize() override { return absl::OkStatus(); }

  /// Asked for so far.
  int64_t bytes() const { return bytes_; }

 private:
  std::string name_;
  bool shares_host_memory_;
  Packing packing_;
  int64_t bytes_ = 0;
};

}  // namespace penstock
