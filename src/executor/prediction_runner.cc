#include "executor/prediction_runner.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"

namespace penstock {

absl::StatusOr<std::unique_ptr<PredictionRunner>> PredictionRunner::Make(
    LoadedModel* model, const DrafterOptions& options) {
  PredictionHead* head = model->head.get();
  const ModelConfig& config = head->config;
  std::unique_ptr<PredictionRunner> r(new PredictionRunner(model, options));
  r->head_ = head;
  RETURN_IF_ERROR(r->MakeCache(config));
  Device& device = *model->device;
  ASSIGN_OR_RETURN(r->network_, Decoder::Make(&config, &head->weights, &device, options.dtype,
                                              options.cache.max_step_tokens, options.cache.max_len,
                                              /*adapter_columns=*/0));
  const int64_t row = config.hidden_size * static_cast<int64_t>(DTypeSize(options.dtype));
  r->capacity_ = MostKept(options);
  ASSIGN_OR_RETURN(r->narrow_, device.Allocate(options.cache.max_step_tokens * row));
  ASSIGN_OR_RETURN(r->wide_, device.Allocate(2 * options.cache.max_step_tokens * row));
  ASSIGN_OR_RETURN(r->states_, device.Allocate((r->capacity_ + 1) * row));
  ASSIGN_OR_RETURN(r->other_, device.Allocate((r->capacity_ + 1) * row));
  r->kept_.resize(options.cache.num_slots);
  return r;
}

/// Twice what a step can leave, so that those of several steps go through the head together where
/// nobody asks for guesses.
int32_t PredictionRunner::MostKept(const DrafterOptions& options) {
  return 2 * static_cast<int32_t>(
                 std::min<int64_t>(options.cache.max_step_tokens,
                                   int64_t{options.cache.num_slots} * (1 + options.max_drafts)));
}

int64_t PredictionRunner::ActivationBytes(const ModelConfig& config,
                                          const DrafterOptions& options) {
  const int64_t rows = 3 * int64_t{options.cache.max_step_tokens} + 2 * (MostKept(options) + 1);
  return rows * config.hidden_size * static_cast<int64_t>(DTypeSize(options.dtype));
}

Tensor PredictionRunner::States() const {
  const int64_t hidden = head_->config.hidden_size;
  return {states_.data(), options_.dtype, capacity_ + 1, hidden, hidden};
}

HeadWork PredictionRunner::Head() {
  return {network_.get(), model_->device.get(), options_.dtype, head_->config.hidden_size,
          &gathered_};
}

PredictionRunner::Kept& PredictionRunner::KeptOf(SlotId id) {
  Kept& kept = kept_[id.value];
  if (kept.sequence != slots_->at(id).sequence) kept = {slots_->at(id).sequence};
  return kept;
}

int32_t PredictionRunner::NumKnown(const SequenceRows& rows) const {
  const auto known = static_cast<int32_t>(slots_->at(SlotId(rows.slot)).tokens.size());
  return std::clamp(known - 1 - rows.position_begin, 0, rows.num_rows);
}

void PredictionRunner::AddKnown(SlotId id, int32_t position, int32_t state) {
  Slot& slot = slots_->at(id);
  pass_.Add(id, position, slot.tokens[position + 1]);
  pass_states_.push_back(state);
  NoteFilled(id, position);
  slot.draft_end = position + 1;
}

void PredictionRunner::AddKept(SlotId id, int32_t end) {
  const Kept& kept = KeptOf(id);
  const int32_t begin = slots_->at(id).draft_end;
  end = std::min(end, begin + options_.cache.max_step_tokens - pass_.num_rows());
  for (int32_t p = begin; p < end; ++p) {
    const bool there = p >= kept.begin && p < kept.end();
    AddKnown(id, p, there ? kept.rows[p - kept.begin] : capacity_);
  }
}

void PredictionRunner::Forward(const Tensor& states, Network* model) {
  const ModelConfig& c = head_->config;
  Ops& ops = model_->device->ops();
  const int64_t rows = pass_.num_rows();
  const int64_t hidden = c.hidden_size;
  const Tensor narrow{narrow_.data(), options_.dtype, rows, hidden, hidden};
  const Tensor wide{wide_.data(), options_.dtype, rows, 2 * hidden, 2 * hidden};
  const auto norm = [&](const NormWeights& w, const Tensor& y) {
    ops.Norm({.x = narrow,
              .weight = FloatsOf(w.weight),
              .eps = c.norm_eps,
              .y = y,
              .bias = FloatsOf(w.bias),
              .center = IsLayerNorm(c.norm)});
  };
  ops.Embed({.table = head_->tables->embedding,
             .ids = pass_.ids.data(),
             .y = narrow,
             .scale = c.embedding_scale,
             .packed = head_->tables->packed_table()});
  norm(head_->embedding_norm, ColumnsOf(wide, 0, hidden));
  ops.GatherRows(states, pass_states_, narrow);
  if (model != nullptr) model->FinalNorm(narrow, narrow);
  norm(head_->state_norm, ColumnsOf(wide, hidden, hidden));
  network_->ForwardFrom(head_->projection, wide, pass_.batch(), layers_);
  pass_.Clear();
  pass_states_.clear();
}

absl::Status PredictionRunner::Run(absl::Span<DraftRequest> requests) {
  std::vector<DraftRequest*> guessing;
  int64_t num_rows = 0;
  for (DraftRequest& request : requests) {
    if (request.num_drafts == 0 || request.position == 0) continue;
    int32_t& end = slots_->at(request.slot).draft_end;
    end = std::min(end, request.position - 1);  // the row that yields the first guess
    num_rows += request.position - end;
    guessing.push_back(&request);
  }
  while (num_rows > options_.cache.max_step_tokens) {
    for (const DraftRequest* request : guessing) AddKept(request->slot, request->position - 1);
    num_rows -= pass_.num_rows();
    Forward(States(), nullptr);
  }
  if (!guessing.empty()) RETURN_IF_ERROR(Guess(std::move(guessing)));
  FillUp(requests);
  return absl::OkStatus();
}

absl::Status PredictionRunner::Guess(std::vector<DraftRequest*> guessing) {
  std::vector<int32_t> rows;  // the last of each
  for (const DraftRequest* request : guessing) {
    AddKept(request->slot, request->position);
    rows.push_back(pass_.num_rows() - 1);
  }
  Forward(States(), nullptr);
  while (true) {
    RETURN_IF_ERROR(Draw(Head(), head_->config.vocab_size, guessing, rows));
    // The states of this pass are the rows of gathered_.
    const Tensor drawn{gathered_.data(), options_.dtype, static_cast<int64_t>(rows.size()),
                       head_->config.hidden_size, head_->config.hidden_size};
    rows.clear();
    for (size_t i = 0; i < guessing.size(); ++i) {
      const DraftRequest& request = *guessing[i];
      const auto made = static_cast<int32_t>(request.drafts.size());
      if (made == request.num_drafts) continue;
      rows.push_back(pass_.num_rows());
      pass_.Add(request.slot, request.position - 1 + made, request.drafts.back());
      pass_states_.push_back(static_cast<int32_t>(i));
    }
    DropDone(guessing);
    if (guessing.empty()) return absl::OkStatus();
    Forward(drawn, nullptr);
  }
}

void PredictionRunner::CatchUp(absl::Span<const SequenceRows> rows) {
  do {
    for (const SequenceRows& r : rows) AddKept(SlotId(r.slot), r.position_begin);
    if (pass_.num_rows() == 0) return;
    Forward(States(), nullptr);
  } while (true);
}

void PredictionRunner::ForwardKnown(Network& model, absl::Span<const SequenceRows> rows) {
  for (const SequenceRows& r : rows) {
    const SlotId id(r.slot);
    slots_->at(id).draft_end = std::min(slots_->at(id).draft_end, r.position_begin);
    for (int32_t i = 0; i < NumKnown(r); ++i) AddKnown(id, r.position_begin + i, r.row_begin + i);
  }
  if (pass_.num_rows() > 0) Forward(model.hidden(), &model);
}

absl::Status PredictionRunner::Follow(Network& model, absl::Span<const SequenceRows> rows) {
  std::vector<SequenceRows> known;
  int32_t num_kept = 0;
  for (const SequenceRows& r : rows) {
    const int32_t count = NumKnown(r);
    if (count > 0) known.push_back(r);
    num_kept += std::min(r.num_rows - count, 1 + options_.max_drafts);
  }
  CatchUp(known);
  ForwardKnown(model, known);
  if (num_states_ + num_kept > capacity_) MakeRoom(rows, num_kept);
  Keep(model, rows);
  return absl::OkStatus();
}

void PredictionRunner::Keep(Network& model, absl::Span<const SequenceRows> rows) {
  std::vector<int32_t> from;
  for (const SequenceRows& r : rows) {
    const int32_t first = NumKnown(r);
    const int32_t count = std::min(r.num_rows - first, 1 + options_.max_drafts);
    if (count == 0) continue;
    Kept& kept = KeptOf(SlotId(r.slot));
    const int32_t begin = r.position_begin + first;
    if (kept.begin > begin || kept.end() < begin) kept.rows.clear();
    if (kept.rows.empty()) kept.begin = begin;
    kept.rows.resize(begin - kept.begin);  // of wrong guesses
    for (int32_t i = 0; i < count; ++i) {
      kept.rows.push_back(num_states_ + static_cast<int32_t>(from.size()));
      from.push_back(r.row_begin + first + i);
    }
  }
  if (from.empty()) return;
  const Tensor to = RowsOfTensor(States(), num_states_, static_cast<int64_t>(from.size()));
  model_->device->ops().GatherRows(model.hidden(), from, to);
  model.FinalNorm(to, to);
  num_states_ += static_cast<int32_t>(from.size());
}

void PredictionRunner::MakeRoom(absl::Span<const SequenceRows> rows, int32_t count) {
  CatchUp(rows);
  std::vector<int32_t> from;
  for (size_t i = 0; i < kept_.size(); ++i) {
    const Slot& slot = slots_->at(SlotId(static_cast<int32_t>(i)));
    Kept& kept = KeptOf(SlotId(static_cast<int32_t>(i)));
    const int32_t done =
        std::clamp(slot.draft_end - kept.begin, 0, static_cast<int32_t>(kept.rows.size()));
    kept.rows.erase(kept.rows.begin(), kept.rows.begin() + done);
    kept.begin += done;
    for (int32_t& row : kept.rows) {
      from.push_back(row);
      row = static_cast<int32_t>(from.size()) - 1;
    }
  }
  if (static_cast<int32_t>(from.size()) + count > capacity_) {  // of slots that do not go on
    for (Kept& kept : kept_) kept.rows.clear();
    from.clear();
  }
  num_states_ = static_cast<int32_t>(from.size());
  if (from.empty()) return;
  const Tensor old = States();
  std::swap(states_, other_);
  model_->device->ops().GatherRows(old, from, RowsOfTensor(States(), 0, num_states_));
}

}  // namespace penstock
