// What a device offers to the model code: memory, packed weights and about ten operations on whole
// tensors. A view owns nothing; DeviceBuffer and PackedLinear own device memory. Must not know
// model families, requests' text.
// Threads: a Device and its Ops are confined to one rank's thread; PackedLinear is immutable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

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

enum class WeightFormat : uint8_t { kFloat32, kBFloat16, kFloat16, kCodes4, kCodes8 };

class QuantizedRows;  // backend/quantized_rows.h

/// Some rows of a linear layer's weight on the host, row-major: numbers, or codes.
struct LinearPart {
  const void* weight = nullptr;  // [rows, k], any alignment
  const void* bias = nullptr;    // [rows], bias_dtype; null: none
  DType bias_dtype = DType::kFloat32;
  int64_t rows = 0;
  absl::Span<const int32_t> order =
      {};  // [rows] which row of weight and bias each is; empty: in order
  WeightFormat format = WeightFormat::kFloat32;  // of weight
  const QuantizedRows* codes = nullptr;          // not null: in place of weight and format
  bool integer_input = false;  // of codes that TakesIntegerInput: x is rounded to 8-bit
                               // integers, a scale per group, and multiplied as such
};

/// Rows of a PackedLinear that are kept alike; what codes mean is in backend/quantized_rows.h.
struct LinearSegment {
  WeightFormat format = WeightFormat::kFloat32;
  int64_t row_begin = 0;
  int64_t num_rows = 0;
  size_t byte_begin = 0;  // in PackedLinear::weight
  int64_t group = 0;      // of codes, as are all below
  int32_t center = 0;
  bool has_book = false;
  bool has_column_order = false;
  bool has_offset = false;
  bool integer_input = false;
  DType scale_type = DType::kFloat32;   // the smallest that holds every scale exactly
  DType offset_type = DType::kFloat32;  // likewise
};

/// A linear layer's weight [n, k] in the device's own order.
struct PackedLinear {
  int64_t n = 0;
  int64_t k = 0;
  std::vector<LinearSegment> segments;  // by row, covering all
  DeviceBuffer weight;
  DeviceBuffer bias;  // float32 [n]; empty: none
};

/// y[r] = scale * table[ids[r]], or added to what y holds
struct EmbedArgs {
  Tensor table = {};             // [n, k]
  const int32_t* ids = nullptr;  // [m]
  Tensor y = {};                 // [m, k]
  float scale = 1.0f;
  bool accumulate = false;
  const PackedLinear* packed = nullptr;  // not null: the table, in place of `table`
};

struct LinearArgs {
  Tensor x;                         // [m, k]
  const PackedLinear* w = nullptr;  // [n, k]
  Tensor y = {};  // [m, n]: x w^T + bias, or added to what y holds; summed in float32, rounded once
  bool accumulate = false;
  float scale = 1.0f;     // of the sum, before soft_cap
  float soft_cap = 0.0f;  // c > 0: c tanh(y / c)
};

/// n = (x - center) / sqrt(mean((x - center)^2) + eps) * weight + bias
struct NormArgs {
  Tensor x;                       // [m, n]
  const float* weight = nullptr;  // [n]; null: ones
  float eps = 1e-6f;
  Tensor y = {};                // [m, n]: n, or scale (y + n); may be x
  const float* bias = nullptr;  // [n]; null: none
  bool center = false;          // true: LayerNorm, center is the mean; false: RMSNorm, it is 0
  bool accumulate = false;
  float scale = 1.0f;
};

/// Positions of the cache that attention sums together.
constexpr int32_t kCacheUnit = 16;

/// From a block's first key of one head to that of position `within` of it, in elements: keys lie
/// [unit][head_dim][kCacheUnit], so that scores need no sums across lanes, or one after the other
/// where they are values too.
constexpr int64_t KeyOffset(int64_t within, int64_t head_dim, bool keys_are_values) {
  if (keys_are_values) return within * head_dim;
  return within / kCacheUnit * kCacheUnit * head_dim + within % kCacheUnit;
}

/// One group's part of a layer's KV cache: [block][K|V][kv_head], keys as KeyOffset has them,
/// values [token][head_dim]; strides in elements. kInt8: round(x / scale), |.| <= 127, with a float32
/// scale per position and head, those of a block after its codes.
struct KvLayer {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  int64_t block_stride = 0;
  int64_t kv_stride = 0;  // from K to V; 0: keys are values
  int64_t scales_at = 0;  // from a head's first code in a block to its scales, in bytes; 0: none
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
  const int32_t* segments = nullptr;         // [num_rows] of encoders: the token types
  const int32_t* rope_rows = nullptr;        // [num_rows] of cos_sin; null: positions
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
  Tensor qkv;  // [m, (num_heads + 2 num_kv_heads) head_dim]: q heads, k heads, v heads; without v
               // heads where cache.kv_stride is 0
  HeadShape heads;
  const float* q_norm = nullptr;  // [head_dim]; null: none
  const float* k_norm = nullptr;  // [head_dim]; null: none
  float norm_eps = 1e-6f;
  const float* cos_sin = nullptr;  // [rows, 2, rotary_dim / 2]; null: no rotation
  int32_t rotary_dim = 0;          // so many of head_dim are rotated, i with i + rotary_dim / 2
  KvLayer cache;
  int32_t rotary_begin = 0;        // from this one on
  bool v_norm = false;             // RMSNorm of each v head, without a weight
  const float* q_scale = nullptr;  // [max_len]: q times that of its position; null: none
};

/// y = softmax(scale q k^T, soft-capped) v over the cached positions (p - window, p]; row r is at
/// positions[r].
struct AttentionArgs {
  Tensor q;  // [m, num_heads head_dim], a view of qkv
  HeadShape heads;
  KvLayer cache;
  float scale = 1.0f;
  float soft_cap = 0.0f;         // 0: none
  int32_t window = 0;            // 0: everything up to p
  const float* sinks = nullptr;  // [num_heads]: a logit that yields nothing; null: none
  Tensor y = {};                 // [m, num_heads head_dim]
};

/// y = softmax(scale q k^T) v over all rows of the same sequence, nothing is cached.
struct EncodeArgs {
  Tensor qkv;  // [m, (num_heads + 2 num_kv_heads) head_dim]: q heads, k heads, v heads
  HeadShape heads;
  float scale = 1.0f;
  Tensor y = {};  // [m, num_heads head_dim]
};

enum class Activation : uint8_t {
  kSilu,
  kGelu,
  kGeluTanh,
  kRelu,
  kSquaredRelu,
  kSigmoid,
  kSoftCap,
  kClampedSwiglu
};

/// y = f(gate) * up, or f(gate) where up.data is null. kSoftCap: limit tanh(gate / limit).
/// kClampedSwiglu: with g = min(gate, limit) and u = clamp(up, +-limit), g sigmoid(alpha g) (u + 1).
struct ActivationArgs {
  Activation f = Activation::kSilu;
  Tensor gate = {};  // [m, n]
  Tensor up = {};    // [m, n]
  Tensor y = {};     // [m, n]; may be gate or up
  float limit = 0;
  float alpha = 1;
};

enum class RouterScore : uint8_t { kSoftmax, kSigmoid, kSoftmaxOfChosen };

/// How a row of router logits becomes top_k experts and their weights. Of equal scores the lower
/// index is chosen.
struct RouterRule {
  RouterScore score = RouterScore::kSoftmax;
  bool normalize = false;  // the chosen weights sum to 1
  int32_t num_groups = 1;  // only the top_groups groups may be chosen from
  int32_t top_groups = 1;
  int32_t group_best = 2;  // of a group's best scores (1 or 2) are summed to judge it
  float scale = 1;         // of the weights
  float shared_scale = 1;  // the weight of a shared expert without a gate
};

struct RouteArgs {
  Tensor logits;  // float32 [m, num_experts + (shared == kGated)]
  RouterRule rule;
  int32_t num_experts = 0;
  int32_t top_k = 0;
  const float* score_bias = nullptr;  // [num_experts], added for the choice alone; null: none
  enum Shared : uint8_t { kNone, kAlways, kGated } shared = kNone;  // slot top_k: expert
                                                                    // num_experts, weighs shared_scale or the
                                                                    // last logit's sigmoid
  int32_t* ids = nullptr;    // [m, top_k + (shared != kNone)], by descending weight
  float* weights = nullptr;  // as ids
};

/// One expert: activation between two linear layers.
struct ExpertWeights {
  PackedLinear gate_up;  // [2 i, k]
  PackedLinear down;     // [k, i]
};

/// y += sum over a row's slots, in order, of weight * down(f(gate_up(x)))
struct ExpertsArgs {
  Tensor x;                        // [m, k]
  const int32_t* ids = nullptr;    // [m, num_slots]
  const float* weights = nullptr;  // [m, num_slots]
  int32_t num_slots = 0;
  absl::Span<const ExpertWeights> experts;
  ActivationArgs activation;  // f, limit and alpha
  Tensor y = {};              // [m, k]
};

/// y += sum over a row's slots, in order, of weight * x; x is lost
struct ExpertSumArgs {
  Tensor x;                        // float32 [m num_slots, k]: a row's slots one after the other
  const float* weights = nullptr;  // [m, num_slots]
  int32_t num_slots = 0;
  Tensor y = {};  // [m, k]
};

/// Heads of the gated delta rule (Yang et al. 2024); each key head serves num_value_heads /
/// num_key_heads value heads in a row.
struct DeltaShape {
  int32_t num_key_heads = 0;
  int32_t num_value_heads = 0;
  int32_t key_dim = 0;    // of a head
  int32_t value_dim = 0;  // of a head
  int32_t conv_width = 0;

  int64_t channels() const {  // q heads, k heads, v heads
    return int64_t{2} * num_key_heads * key_dim + int64_t{num_value_heads} * value_dim;
  }
  int64_t state_floats() const {  // [conv_width - 1, channels], [value_head, key_dim, value_dim]
    return (conv_width - 1) * channels() + int64_t{num_value_heads} * key_dim * value_dim;
  }
};

/// Per row: a causal convolution over time and SiLU of each channel, then for each value head, with
/// q and k of unit length and q over sqrt(key_dim), S = exp(-decay softplus(a + dt_bias)) S;
/// S += k (sigmoid(b) (v - S^T k))^T; y = S^T q.
struct DeltaArgs {
  DeltaShape shape;
  Tensor qkv;                    // [m, channels]
  Tensor ba;                     // float32 [m, 2 num_value_heads]: b, then a
  const float* conv = nullptr;   // [conv_width, channels]
  const float* decay = nullptr;  // [num_value_heads]
  const float* dt_bias = nullptr;
  float* states = nullptr;  // [num_slots, state_stride]: read and written
  int64_t state_stride = 0;
  Tensor y = {};  // [m, num_value_heads value_dim]
};

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
  virtual void Embed(const EmbedArgs& args) = 0;
  virtual void Norm(const NormArgs& args) = 0;
  virtual void Linear(const LinearArgs& args) = 0;
  virtual void RopeAndCache(const RopeArgs& args, const BatchRows& batch) = 0;
  virtual void Attention(const AttentionArgs& args, const BatchRows& batch) = 0;
  virtual void Encode(const EncodeArgs& args, const BatchRows& batch) = 0;
  virtual void Activate(const ActivationArgs& args) = 0;
  virtual void Route(const RouteArgs& args) = 0;
  virtual void Experts(const ExpertsArgs& args) = 0;
  /// How Experts ends.
  virtual void SumExperts(const ExpertSumArgs& args) = 0;
  virtual void DeltaRule(const DeltaArgs& args, const BatchRows& batch) = 0;
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
  /// Zeroed memory of the host that the device copies from and to by itself, else likewise.
  virtual absl::StatusOr<DeviceBuffer> AllocateHost(size_t bytes) = 0;
  /// Whether host pointers are device pointers: then a view may lie on a mapped file.
  virtual bool shares_host_memory() const = 0;
  virtual void CopyToDevice(void* device, const void* host, size_t bytes) = 0;
  /// Within the device, in order with the operations; null `from`: zeros.
  virtual void CopyOnDevice(void* to, const void* from, size_t bytes) = 0;
  virtual void CopyToHost(void* host, const void* device, size_t bytes) = 0;
  /// The parts' rows one after the other. Reads codes a panel of rows at a time.
  virtual absl::StatusOr<PackedLinear> Pack(int64_t k, absl::Span<const LinearPart> parts) = 0;
  /// Waits for what was enqueued; a device fault is sticky and returned from here on.
  virtual absl::Status Synchronize() = 0;
};

}  // namespace penstock
