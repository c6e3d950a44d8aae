#include "executor/state_rewind.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

int32_t MostGuessedRows(const RewindOptions& options) {
  return static_cast<int32_t>(std::min<int64_t>(
      options.max_step_tokens, int64_t{options.num_slots} * (1 + options.max_drafts)));
}

size_t FirstRecurrent(const ModelConfig& config) {
  return std::find_if(config.layers.begin(), config.layers.end(),
                      [](const LayerConfig& layer) { return layer.recurrent; }) -
         config.layers.begin();
}

}  // namespace

absl::StatusOr<std::unique_ptr<StateRewind>> StateRewind::Make(const ModelConfig& config,
                                                               const RewindOptions& options,
                                                               const KvCache& cache,
                                                               Decoder* decoder, Device* device) {
  std::unique_ptr<StateRewind> r(new StateRewind());
  r->decoder_ = decoder;
  r->device_ = device;
  r->states_ = reinterpret_cast<std::byte*>(cache.states(FirstRecurrent(config)));
  r->state_bytes_ = StateBytes(config);
  r->max_rows_ = MostGuessedRows(options);
  RETURN_IF_ERROR(decoder->MakeRoomForDelta(r->max_rows_));
  ASSIGN_OR_RETURN(r->copies_, device->Allocate(options.num_slots * r->state_bytes_));
  return r;
}

int64_t StateRewind::Bytes(const ModelConfig& config, const RewindOptions& options) {
  const int64_t layers = std::count_if(config.layers.begin(), config.layers.end(),
                                       [](const LayerConfig& layer) { return layer.recurrent; });
  const int64_t row = config.delta.channels() * static_cast<int64_t>(DTypeSize(options.dtype)) +
                      2 * int64_t{config.delta.num_value_heads} * 4;
  return options.num_slots * StateBytes(config) + layers * MostGuessedRows(options) * row;
}

absl::Status StateRewind::Start(std::vector<SequenceRows> slices) {
  slices_ = std::move(slices);
  std::vector<int32_t> rows;
  for (const SequenceRows& s : slices_) {
    device_->CopyOnDevice(static_cast<std::byte*>(copies_.data()) + s.slot * state_bytes_,
                          states_ + s.slot * state_bytes_, state_bytes_);
    for (int32_t i = 0; i < s.num_rows; ++i) rows.push_back(s.row_begin + i);
  }
  if (static_cast<int32_t>(rows.size()) > max_rows_) {
    return absl::InvalidArgumentError(absl::StrCat("broken plan: slices with guesses have ",
                                                   rows.size(), " rows, at most ", max_rows_,
                                                   " can be taken back"));
  }
  decoder_->KeepDelta(std::move(rows));
  return absl::OkStatus();
}

void StateRewind::Finish(absl::Span<const int32_t> num_right, absl::Span<const LayerCache> layers) {
  std::vector<int32_t> rows;  // of those that are kept
  std::vector<SequenceRows> again;
  int32_t kept = 0;
  for (size_t i = 0; i < slices_.size(); ++i) {
    const SequenceRows& s = slices_[i];
    if (num_right[i] < s.num_rows) {
      device_->CopyOnDevice(states_ + s.slot * state_bytes_,
                            static_cast<std::byte*>(copies_.data()) + s.slot * state_bytes_,
                            state_bytes_);
      again.push_back({s.slot, static_cast<int32_t>(rows.size()), num_right[i], s.position_begin});
      for (int32_t row = 0; row < num_right[i]; ++row) rows.push_back(kept + row);
    }
    kept += s.num_rows;
  }
  slices_.clear();
  if (!again.empty()) decoder_->RedoDelta(rows, again, layers);
}

}  // namespace penstock
