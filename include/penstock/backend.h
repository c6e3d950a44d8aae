// What a device offers to the model code: memory, packed weights and about ten operations on whole
// tensors. A view owns nothing; DeviceBuffer and PackedLinear own device memory. Must not know
// model families, requests' text.
// Threads: a Device and its Ops are confined to one rank's thread; PackedLinear is immutable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "penstock/request.h"
#include "penstock/types.h"

namespace penstock {

/// A matrix on a device: element (r, c) is data[r * stride + c].
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;  // elements from one row to the next

  std::byte* row(int64_t r) const {
    return static_cast<std::byte*>(data) + r * stride * static_cast<int64_t>(DTypeSize(dtype));
  }
};

/// Zeroed device memory, given back on destruction.
class DeviceBuffer {
 public:
  using Deleter = void (*)(void* data, size_t bytes);
  DeviceBuffer() = default;
  DeviceBuffer(void* data, size_t bytes, Deleter deleter)
      : data_(data), bytes_(bytes), deleter_(deleter) {}
  DeviceBuffer(DeviceBuffer&& other) noexcept { *this = std::move(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(deleter_, other.deleter_);
    return *this;
  }
  ~DeviceBuffer() {
    if (data_ != nullptr) deleter_(data_, bytes_);
  }
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
  Deleter deleter_ = nullptr;
};

/// Some rows of a linear layer's weight on the host, row-major.
struct LinearPart {
  const void* weight = nullptr;  // [rows, k], any alignment
  const void* bias = nullptr;    // [rows], bias_dtype; null: none
  DType bias_dtype = DType::kFloat32;
  int64_t rows = 0;
};

enum class WeightFormat : uint8_t { kFloat32, kBFloat16, kFloat16 };

/// A linear layer's weight [n, k] in the device's own order.
struct PackedLinear {
  WeightFormat format = WeightFormat::kFloat32;
  int64_t n = 0;
  int64_t k = 0;
  DeviceBuffer weight;
  DeviceBuffer bias;  // float32 [n]; empty: none
};

struct LinearArgs {
  Tensor x;                         // [m, k]
  const PackedLinear* w = nullptr;  // [n, k]
  Tensor y;  // [m, n]: x w^T + bias, or added to what y holds; summed in float32, rounded once
  bool accumulate = false;
  float scale = 1.0f;     // of the sum, before soft_cap
  float soft_cap = 0.0f;  // c > 0: c tanh(y / c)
};

struct NormArgs {
  Tensor x;                       // [m, n]
  const float* weight = nullptr;  // [n]
  float eps = 1e-6f;
  Tensor y;  // [m, n]; may be x
};

/// One group's part of a layer's KV cache: [block][K|V][kv_head][token][dim], strides in elements.
struct KvLayer {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  int64_t block_stride = 0;
  int64_t kv_stride = 0;  // from K to V
  int64_t head_stride = 0;
  int32_t block_size = 16;
  const BlockId* tables = nullptr;  // [num_slots, max_blocks]
  int32_t max_blocks = 0;
};

/// Rows [row_begin, row_begin + num_rows) of the batch: positions from position_begin on of the
/// sequence in `slot`.
struct SequenceRows {
  int32_t slot = 0;
  int32_t row_begin = 0;
  int32_t num_rows = 0;
  int32_t position_begin = 0;
};

/// A step's rows as the operations see them.
struct BatchRows {
  int32_t num_rows = 0;
  const int32_t* ids = nullptr;              // [num_rows]
  const int32_t* positions = nullptr;        // [num_rows]
  const int32_t* slots = nullptr;            // [num_rows]
  absl::Span<const SequenceRows> sequences;  // host memory; in row order, covering all rows
};

struct HeadShape {
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
};

/// Normalises and rotates q in place; normalises and rotates k and writes it and v to the cache.
struct RopeArgs {
  Tensor qkv;  // [m, (num_heads + 2 num_kv_heads) head_dim]: q heads, k heads, v heads
  HeadShape heads;
  const float* q_norm = nullptr;  // [head_dim]; null: none
  const float* k_norm = nullptr;  // [head_dim]; null: none
  float norm_eps = 1e-6f;
  const float* cos_sin = nullptr;  // [max_len, 2, rotary_dim / 2]; null: no rotation
  int32_t rotary_dim = 0;  // the first so many of head_dim are rotated, i with i + rotary_dim / 2
  KvLayer cache;
};

/// y = softmax(scale q k^T, soft-capped) v over the cached positions (p - window, p]; row r is at
/// positions[r].
struct AttentionArgs {
  Tensor q;  // [m, num_heads head_dim], a view of qkv
  HeadShape heads;
  KvLayer cache;
  float scale = 1.0f;
  float soft_cap = 0.0f;  // 0: none
  int32_t window = 0;     // 0: everything up to p
  const float* sinks =
      nullptr;  // [num_heads]: a logit that takes its share and yields nothing; null: none
  Tensor y;     // [m, num_heads head_dim]
};

enum class Activation : uint8_t { kSilu, kGelu, kGeluTanh, kRelu };

/// One row of logits to draw from.
struct SampleRow {
  int64_t row = 0;       // of the logits
  int32_t position = 0;  // that the drawn token will have
  const SamplingParams* params = nullptr;
  absl::Span<const int32_t> prompt_output_counts;  // [2, vocab]: occurrences in the prompt, in the
                                                   // output; empty: no penalties
  absl::Span<const TokenId> banned;                // stop ids below min_tokens
  absl::Span<const uint32_t> mask;                 // [ceil(vocab / 32)] allowed tokens; empty: all
};

/// The arithmetic. Calls are enqueued in order; arguments are read before a call returns, tensors
/// when it runs.
class Ops {
 public:
  virtual ~Ops() = default;
  /// y[r] = scale * table[ids[r]]
  virtual void Embed(const Tensor& table, const BatchRows& batch, float scale, const Tensor& y) = 0;
  /// y = x / sqrt(mean(x^2) + eps) * weight
  virtual void RmsNorm(const NormArgs& args) = 0;
  virtual void Linear(const LinearArgs& args) = 0;
  virtual void RopeAndCache(const RopeArgs& args, const BatchRows& batch) = 0;
  virtual void Attention(const AttentionArgs& args, const BatchRows& batch) = 0;
  /// y[m, n] = f(x[:, :n]) * x[:, n:], x [m, 2n]
  virtual void GatedActivation(Activation f, const Tensor& x, const Tensor& y) = 0;
  /// y[i] = x[rows[i]]
  virtual void GatherRows(const Tensor& x, absl::Span<const int32_t> rows, const Tensor& y) = 0;
  /// Draws one token per row of `logits` (float32); id -1 where a row holds no number.
  virtual void Sample(const Tensor& logits, absl::Span<const SampleRow> rows,
                      absl::Span<SampledToken> tokens) = 0;
  /// Log-probability and rank of ids[i] in row i of `logits`, and of the `num_top` most likely.
  virtual void Score(const Tensor& logits, absl::Span<const TokenId> ids, int32_t num_top,
                     absl::Span<SampledToken> tokens) = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string_view name() const = 0;
  virtual Ops& ops() = 0;
  /// RESOURCE_EXHAUSTED where there is no room.
  virtual absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) = 0;
  /// Whether host pointers are device pointers: then a view may lie on a mapped file.
  virtual bool shares_host_memory() const = 0;
  virtual void CopyToDevice(void* device, const void* host, size_t bytes) = 0;
  virtual void CopyToHost(void* host, const void* device, size_t bytes) = 0;
  /// The parts' rows one after the other, all of `format`.
  virtual absl::StatusOr<PackedLinear> Pack(WeightFormat format, int64_t k,
                                            absl::Span<const LinearPart> parts) = 0;
  /// Waits for what was enqueued; a device fault is sticky and returned from here on.
  virtual absl::Status Synchronize() = 0;
};

}  // namespace penstock
