#include "backend/packed_device.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/cpu/cpu_device.h"
#include "backend/cpu/pack_linear.h"
#include "backend/cpu/packed_reader.h"
#include "backend/cpu/packed_writer.h"
#include "backend/quantized_rows.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

class ForwardingDevice : public PackedDevice {
 public:
  explicit ForwardingDevice(CpuDevice& device) : device_(device) {}
  std::string_view name() const override { return device_.name(); }
  Ops& ops() override { return device_.ops(); }
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override { return device_.Allocate(bytes); }
  absl::StatusOr<DeviceBuffer> AllocateHost(size_t bytes) override {
    return device_.AllocateHost(bytes);
  }
  bool shares_host_memory() const override { return true; }
  void CopyToDevice(void* device, const void* host, size_t bytes) override {
    device_.CopyToDevice(device, host, bytes);
  }
  void CopyOnDevice(void* to, const void* from, size_t bytes) override {
    device_.CopyOnDevice(to, from, bytes);
  }
  void CopyToHost(void* host, const void* device, size_t bytes) override {
    device_.CopyToHost(host, device, bytes);
  }
  absl::Status Synchronize() override { return device_.Synchronize(); }

 protected:
  CpuDevice& device_;
};

/// Whether the orders of columns in `packed` are those of `parts`: an index into x is never taken
/// from a file.
bool OrdersAgree(const PackedLinear& packed, absl::Span<const LinearPart> parts,
                 const KernelChoice& kernels) {
  for (const LinearSegment& segment : packed.segments) {
    if (!segment.has_column_order) continue;
    int64_t row = 0;
    const auto first = std::find_if(parts.begin(), parts.end(), [&](const LinearPart& part) {
      const bool found = part.rows > 0 && row == segment.row_begin;
      row += part.rows;
      return found;
    });
    if (first == parts.end()) return false;
    const std::vector<int32_t>& order = first->codes->form().column_order;
    const SegmentLayout layout(segment, packed.k, kernels.Of(segment).panel_rows);
    const char* at =
        static_cast<const char*>(packed.weight.data()) + segment.byte_begin + layout.order_begin;
    if (std::memcmp(at, order.data(), order.size() * sizeof(int32_t)) != 0) return false;
  }
  return true;
}

class ReadingDevice final : public ForwardingDevice {
 public:
  ReadingDevice(CpuDevice& device, StoredLayers stored)
      : ForwardingDevice(device), stored_(std::move(stored)) {}

  /// The file says no more than bytes and types of scales: where what lies follows from `parts`.
  absl::StatusOr<PackedLinear> Pack(int64_t k, absl::Span<const LinearPart> parts) override {
    const auto differs = [&] {
      return absl::DataLossError(absl::StrCat("layer ", next_, " is not the model's"));
    };
    if (next_ == stored_.layers.size()) return differs();
    StoredLayer& stored = stored_.layers[next_];
    PackedLinear packed;
    packed.k = k;
    packed.segments = ShapeSegments(parts);
    bool has_bias = false;
    for (const LinearPart& part : parts) {
      packed.n += part.rows;
      has_bias |= part.bias != nullptr;
    }
    const PackedLayer& said = stored.layer;
    if (said.n != packed.n || said.k != k || said.types.size() != packed.segments.size()) {
      return differs();
    }
    for (size_t i = 0; i < said.types.size(); ++i) {
      packed.segments[i].scale_type = said.types[i].first;
      packed.segments[i].offset_type = said.types[i].second;
    }
    const size_t bytes = PlaceSegments(k, device_.kernels(), packed.segments);
    const size_t bias_bytes = has_bias ? packed.n * sizeof(float) : 0;
    if (static_cast<size_t>(said.weight.bytes) != bytes ||
        static_cast<size_t>(said.bias.bytes) != bias_bytes) {
      return differs();
    }
    packed.weight = std::move(stored.weight);
    packed.bias = std::move(stored.bias);
    if (!OrdersAgree(packed, parts, device_.kernels())) return differs();
    ++next_;
    return packed;
  }

  absl::Status Finish() override {
    if (next_ == stored_.layers.size()) return absl::OkStatus();
    return absl::DataLossError("it has more layers than the model");
  }
  int64_t file_bytes() const override { return stored_.file_bytes; }

 private:
  StoredLayers stored_;
  size_t next_ = 0;
};

class WritingDevice final : public ForwardingDevice {
 public:
  WritingDevice(CpuDevice& device, std::unique_ptr<PackedWriter> writer)
      : ForwardingDevice(device), writer_(std::move(writer)) {}

  absl::StatusOr<PackedLinear> Pack(int64_t k, absl::Span<const LinearPart> parts) override {
    ASSIGN_OR_RETURN(PackedLinear packed, device_.Pack(k, parts));
    if (written_.ok()) {
      const size_t bytes = PlaceSegments(k, device_.kernels(), packed.segments);
      written_ = writer_->Add(packed, static_cast<int64_t>(bytes));
    }
    return packed;
  }

  absl::Status Finish() override {
    RETURN_IF_ERROR(written_);
    return writer_->Finish();
  }
  int64_t file_bytes() const override { return writer_->file_bytes(); }

 private:
  std::unique_ptr<PackedWriter> writer_;
  absl::Status written_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<PackedDevice>> ReadPacked(const OpenedBackend& backend,
                                                         const PackedFile& file, WorkerPool& pool) {
  auto& device = static_cast<CpuDevice&>(*backend.device);
  ASSIGN_OR_RETURN(StoredLayers stored, ReadStoredLayers(file, device, pool));
  return std::make_unique<ReadingDevice>(device, std::move(stored));
}

absl::StatusOr<std::unique_ptr<PackedDevice>> WritePacked(const OpenedBackend& backend,
                                                          const PackedFile& file,
                                                          WorkerPool& pool) {
  ASSIGN_OR_RETURN(std::unique_ptr<PackedWriter> writer, PackedWriter::Create(file, pool));
  return std::make_unique<WritingDevice>(static_cast<CpuDevice&>(*backend.device),
                                         std::move(writer));
}

}  // namespace penstock
