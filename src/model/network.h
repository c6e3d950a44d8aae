// A network as the runner sees it: rows in, a hidden state for each row out.
// Owns nothing. Must not know sequences, sampling or plans.
// Threads: confined to one rank's thread.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "penstock/backend.h"

namespace penstock {

/// What a layer remembers: keys and values in blocks, or one state a slot.
struct LayerCache {
  KvLayer kv;
  float* states = nullptr;  // [num_slots, state_stride]; a recurrent layer's
  int64_t state_stride = 0;
};

struct AdapterWeights;  // model/adapter_weights.h

/// Rows [row_begin, row_begin + num_rows) of the batch, computed with an adapter.
struct AdaptedRows {
  int32_t row_begin = 0;
  int32_t num_rows = 0;
  const AdapterWeights* adapter = nullptr;
};

class Network {
 public:
  virtual ~Network() = default;
  /// Computes the batch's positions; cache[i] is layer i's. hidden() then has a row per row of the
  /// batch. Rows of no element of `adapted`, which is in order of rows and lives until the step's
  /// logits are computed, are computed as without any.
  virtual void Forward(const BatchRows& batch, absl::Span<const LayerCache> cache,
                       absl::Span<const AdaptedRows> adapted) = 0;
  /// [num_rows, hidden] of the last Forward, before the final norm.
  virtual const Tensor& hidden() const = 0;
  /// y = norm(x); x and y [m, hidden].
  virtual void FinalNorm(const Tensor& x, const Tensor& y) = 0;
  /// Outputs of the head from x [m, hidden] after FinalNorm: logits float32 [m, vocab], or a
  /// classifier's [m, num_labels]. `rows` [m]: which of the last Forward's they are.
  virtual void Logits(const Tensor& x, absl::Span<const int32_t> rows, const Tensor& logits) = 0;
  /// Of a network that is computed by several threads: why it is not any more. Sticky.
  virtual absl::Status status() const { return absl::OkStatus(); }
  /// Whether a thread that has not come back may still use the network and what it was given: then
  /// none of this may ever go.
  virtual bool abandoned() const { return false; }
};

/// Columns [begin, begin + cols) of a tensor.
inline Tensor ColumnsOf(const Tensor& t, int64_t begin, int64_t cols) {
  Tensor view = t;
  view.data = static_cast<std::byte*>(t.data) + begin * static_cast<int64_t>(DTypeSize(t.dtype));
  view.cols = cols;
  return view;
}

/// Rows [begin, begin + rows) of a tensor.
inline Tensor RowsOfTensor(const Tensor& t, int64_t begin, int64_t rows) {
  Tensor view = t;
  view.data = t.row(begin);
  view.rows = rows;
  return view;
}

inline const float* FloatsOf(const DeviceBuffer& buffer) {
  return static_cast<const float*>(buffer.data());
}

}  // namespace penstock
