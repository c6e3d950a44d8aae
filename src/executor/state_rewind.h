// Takes recurrent states back to where guesses were right: before a pass the state of each slot that
// has guesses is copied, in the pass the layers keep what they read of its rows, and from both the
// rows that were right are computed again, those of the recurrence alone.
// Owns the copies; borrows decoder, cache and device. Must not know plans.
// Threads: confined to one rank's thread.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "executor/kv_cache.h"
#include "model/decoder.h"

namespace penstock {

struct RewindOptions {
  DType dtype = DType::kFloat32;  // of activations
  int32_t max_step_tokens = 0;
  int32_t num_slots = 0;
  int32_t max_drafts = 0;  // of one slice
};

class StateRewind {
 public:
  /// Of a model with recurrent layers.
  static absl::StatusOr<std::unique_ptr<StateRewind>> Make(const ModelConfig& config,
                                                           const RewindOptions& options,
                                                           const KvCache& cache, Decoder* decoder,
                                                           Device* device);
  /// What it takes from the start.
  static int64_t Bytes(const ModelConfig& config, const RewindOptions& options);

  /// `slices`: those with guesses, as rows of the decoder's next pass; none is fine.
  /// INVALID_ARGUMENT where they are more rows than guesses can make.
  absl::Status Start(std::vector<SequenceRows> slices);
  /// After the pass: of each slice the first num_right[i] rows count, one at least.
  void Finish(absl::Span<const int32_t> num_right, absl::Span<const LayerCache> layers);

 private:
  StateRewind() = default;

  Decoder* decoder_ = nullptr;
  Device* device_ = nullptr;
  std::byte* states_ = nullptr;  // of slot 0
  int64_t state_bytes_ = 0;
  int32_t max_rows_ = 0;
  DeviceBuffer copies_;  // [num_slots, state_bytes]
  std::vector<SequenceRows> slices_;
};

}  // namespace penstock
