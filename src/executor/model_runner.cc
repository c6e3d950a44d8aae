#include "executor/model_runner.h"

#include <algorithm>
#include <list>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/half.h"
#include "base/status_macros.h"

namespace penstock {
absl::Status ModelRunner::Forward(const StepPlan& plan) {
  RETURN_IF_ERROR(fault_);
  plan_ = &plan;
  pieces_.clear();
  ids_.clear();
  positions_.clear();
  row_slots_.clear();
  rope_rows_.clear();
  segments_.clear();
  sequences_.clear();
  adapted_.clear();
  step_adapters_.clear();
  moving_ = {};
  if (!plan.moves.empty()) RETURN_IF_ERROR(MoveBlocks());
  for (const SlotSetup& setup : plan.setups) RETURN_IF_ERROR(slots_->Setup(setup));
  for (const size_t index : SliceOrder()) RETURN_IF_ERROR(AddSlice(index));
  if (drafts_ != nullptr) RETURN_IF_ERROR(RunDrafts());
  BatchRows batch;
  batch.num_rows = static_cast<int32_t>(ids_.size());
  batch.ids = ids_.data();
  batch.positions = positions_.data();
  if (limits_.prefix_split > 0) batch.rope_rows = rope_rows_.data();
  batch.slots = row_slots_.data();
  batch.segments = segments_.data();
  batch.sequences = sequences_;
  const bool has_states = cache_ != nullptr && cache_->has_states();
  if (has_states) RETURN_IF_ERROR(LoadStates());
  if (rewind_ != nullptr) RETURN_IF_ERROR(StartRewind());
  if (batch.num_rows > 0) network_->Forward(batch, layers_, adapted_);
  RETURN_IF_ERROR(CheckNetwork());
  if (has_states) StoreStates();
  if (drafts_ != nullptr && batch.num_rows > 0)
    RETURN_IF_ERROR(drafts_->Follow(*network_, sequences_));
  const absl::Status computed = ComputeOutputs();
  RETURN_IF_ERROR(CheckNetwork());  // the cause of what it left undone
  return computed;
}

absl::Status ModelRunner::MoveBlocks() {
  if (tier_ == nullptr)
    return absl::InvalidArgumentError("broken plan: copies of blocks without a second tier");
  return tier_->Run(plan_->moves, moving_);
}

absl::Status ModelRunner::RunDrafts() {
  std::vector<DraftRequest> requests;
  std::vector<const Piece*> wanting;
  for (const Piece& piece : pieces_) {
    if (piece.num_guessed == 0 && !piece.slice->draft_along) continue;
    DraftRequest& request = requests.emplace_back();
    request.slot = piece.slice->slot;
    request.position = piece.begin + piece.slice->num_tokens - piece.num_guessed - 1;
    request.num_drafts = piece.num_guessed;
    wanting.push_back(&piece);
    const auto known = static_cast<int32_t>(piece.slot->tokens.size());
    if (known <= request.position || (request.num_drafts > 0 && known != request.position + 1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("broken plan: sequence ", piece.slice->sequence.value, ": ", known,
                       " tokens are known, guesses are wanted after position ", request.position));
    }
  }
  if (requests.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(drafts_->Run(absl::MakeSpan(requests)));
  for (size_t i = 0; i < requests.size(); ++i) {
    const int32_t end = wanting[i]->row_begin + wanting[i]->slice->num_tokens;
    std::copy(requests[i].drafts.begin(), requests[i].drafts.end(),
              ids_.begin() + end - wanting[i]->num_guessed);
  }
  return absl::OkStatus();
}

absl::Status ModelRunner::LoadStates() {
  const auto exists = [&](BlockId block) {
    for (const CacheGroup& group : limits_.groups) {
      if (group.retention == CacheRetention::kRecurrent) return block < group.num_blocks;
    }
    return false;
  };
  for (const Piece& piece : pieces_) {
    const StateBlocks& state = piece.slice->state;
    if (state.load < kNoBlock || state.store < kNoBlock || !exists(state.load) ||
        !exists(state.store)) {
      return absl::InvalidArgumentError(absl::StrCat("broken plan: snapshot ", state.load, " or ",
                                                     state.store, " does not exist"));
    }
    if (state.load != kNoBlock || piece.begin == 0)
      cache_->LoadState(piece.slice->slot, state.load, *model_->device);
  }
  return absl::OkStatus();
}

void ModelRunner::StoreStates() {
  for (const Piece& piece : pieces_) {
    const BlockId store = piece.slice->state.store;
    if (store != kNoBlock) cache_->StoreState(piece.slice->slot, store, *model_->device);
  }
}

absl::Status ModelRunner::StartRewind() {
  std::vector<SequenceRows> guessed;
  for (size_t i = 0; i < pieces_.size(); ++i) {
    if (pieces_[i].slice->num_drafts > 0) guessed.push_back(sequences_[i]);
  }
  return rewind_->Start(std::move(guessed));
}

void ModelRunner::FinishRewind() {
  std::vector<int32_t> num_right;
  for (const Piece& piece : pieces_) {
    const SequenceSlice& slice = *piece.slice;
    if (slice.num_drafts > 0)
      num_right.push_back(slice.num_tokens - slice.num_drafts + piece.result.num_accepted);
  }
  rewind_->Finish(num_right, layers_);
}

std::vector<size_t> ModelRunner::SliceOrder() const {
  std::vector<size_t> order(plan_->slices.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [this](size_t a, size_t b) {
    return plan_->slices[a].adapter < plan_->slices[b].adapter;
  });
  return order;
}

absl::Status ModelRunner::AddSlice(size_t index) {
  const SequenceSlice& slice = plan_->slices[index];
  const auto broken = [&](const auto&... what) {
    return absl::InvalidArgumentError(
        absl::StrCat("broken plan: sequence ", slice.sequence.value, ": ", what...));
  };
  const int32_t first_block = drafts_ != nullptr && slots_->Exists(slice.slot)
                                  ? slots_->at(slice.slot).num_blocks[limits_.groups.size() - 1]
                                  : 0;
  RETURN_IF_ERROR(slots_->AppendBlocks(*plan_, slice));
  if (drafts_ != nullptr) drafts_->NoteBlocks(slice.slot, first_block, slice.begin);
  Piece piece;
  piece.slice = &slice;
  piece.index = index;
  piece.slot = &slots_->at(slice.slot);
  piece.begin = slice.begin_on_device ? piece.slot->last_sample_position : slice.begin;
  piece.row_begin = static_cast<int32_t>(ids_.size());
  piece.result.sequence = slice.sequence;
  piece.result.slot = slice.slot;
  const int32_t end = piece.begin + slice.num_tokens;
  if (slice.num_tokens < 1 || piece.begin < 0 || end > limits_.max_context ||
      piece.row_begin + slice.num_tokens > limits_.max_step_tokens) {
    return broken("positions [", piece.begin, ", ", end, ") do not fit the step");
  }
  if (slice.num_outputs < 0 || slice.num_outputs > slice.num_tokens || slice.num_drafts < 0 ||
      slice.num_drafts >= slice.num_tokens) {
    return broken(slice.num_outputs, " outputs and ", slice.num_drafts, " drafts of ",
                  slice.num_tokens, " tokens");
  }
  if (!slots_->Covers(*piece.slot, slice.slot.value, piece.begin, end)) {
    return broken("positions [", piece.begin, ", ", end, ") have no blocks");
  }
  if (model_->config.encoder.present && slice.num_outputs > 0 && slice.kind != OutputKind::kHidden)
    return broken("an encoder draws no tokens");
  RETURN_IF_ERROR(AddTokens(piece));
  if (slice.adapter != kNoAdapter) RETURN_IF_ERROR(AddAdapted(piece));
  sequences_.push_back({slice.slot.value, piece.row_begin, slice.num_tokens, piece.begin});
  pieces_.push_back(std::move(piece));
  return absl::OkStatus();
}

absl::Status ModelRunner::AddAdapted(const Piece& piece) {
  const SequenceSlice& slice = *piece.slice;
  if (!pieces_.empty() && pieces_.back().slice->adapter == slice.adapter) {
    adapted_.back().num_rows += slice.num_tokens;
    return absl::OkStatus();
  }
  auto adapter = options_.adapters == nullptr ? nullptr : options_.adapters->Find(slice.adapter);
  if (adapter == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("broken plan: sequence ", slice.sequence.value,
                                                   ": adapter ", slice.adapter.value,
                                                   " is not loaded"));
  }
  adapted_.push_back({piece.row_begin, slice.num_tokens, adapter.get()});
  step_adapters_.push_back(std::move(adapter));
  return absl::OkStatus();
}

absl::Status ModelRunner::AddTokens(Piece& piece) {
  const SequenceSlice& slice = *piece.slice;
  const bool scores = slice.kind == OutputKind::kPromptLogprobs && slice.num_outputs > 0;
  const int64_t end = int64_t{slice.token_offset} + slice.num_tokens + (scores ? 1 : 0);
  if (slice.token_offset < 0 || end > static_cast<int64_t>(plan_->tokens.size())) {
    return absl::InvalidArgumentError(absl::StrCat("broken plan: sequence ", slice.sequence.value,
                                                   ": its tokens end at ", end, " of ",
                                                   plan_->tokens.size()));
  }
  for (int32_t i = 0; i < slice.num_tokens; ++i) {
    const bool fed = i == 0 && slice.feed_last_sample;
    TokenId id = fed ? piece.slot->last_sample : plan_->tokens[slice.token_offset + i];
    if (drafts_ != nullptr && id < 0 && i >= slice.num_tokens - slice.num_drafts) {
      ++piece.num_guessed;
      id = 0;  // until the draft model has guessed
    }
    if (id < 0 || id >= limits_.vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("broken plan: sequence ", slice.sequence.value, ": token ", id,
                       " is outside the vocabulary of ", limits_.vocab_size));
    }
    ids_.push_back(id);
    positions_.push_back(piece.begin + i);
    row_slots_.push_back(slice.slot.value);
    const int32_t second = piece.slot->second_segment;
    const bool in_second = second > 0 && piece.begin + i >= second;
    segments_.push_back(in_second && model_->config.encoder.num_types > 1 ? 1 : 0);
    const int32_t length = std::max(piece.slot->prompt_tokens, piece.begin + i + 1);
    rope_rows_.push_back(piece.begin + i +
                         (length > limits_.prefix_split ? limits_.max_context : 0));
  }
  return absl::OkStatus();
}

absl::Status ModelRunner::ComputeOutputs() {
  for (size_t i = 0; i < pieces_.size(); ++i) {
    Piece& piece = pieces_[i];
    const SequenceSlice& slice = *piece.slice;
    if (slice.num_outputs == 0) continue;
    if (slice.kind == OutputKind::kToken) piece.num_draws = slice.num_outputs;
    if (slice.kind == OutputKind::kHidden) RETURN_IF_ERROR(ReadHidden(piece));
    if (slice.kind == OutputKind::kPromptLogprobs) {
      RETURN_IF_ERROR(ScorePrompt(i));
      // The token after the last position is not known: it is to be drawn.
      if (plan_->tokens[slice.token_offset + slice.num_tokens] < 0) piece.num_draws = 1;
    }
  }
  RETURN_IF_ERROR(ComputeDrawLogits());
  return model_->device->Synchronize();
}

absl::Status ModelRunner::CheckNetwork() {
  const absl::Status status = network_->status();
  if (!status.ok()) fault_ = absl::InternalError(absl::StrCat("device fault: ", status.message()));
  return fault_;
}

HeadWork ModelRunner::Head() {
  return {network_.get(), model_->device.get(), options_.dtype, model_->config.hidden_size,
          &gathered_};
}

absl::Status ModelRunner::ComputeDrawLogits() {
  std::vector<int32_t> rows;
  for (Piece& piece : pieces_) {
    piece.logits_begin = static_cast<int32_t>(rows.size());
    const int32_t end = piece.row_begin + piece.slice->num_tokens;
    for (int32_t row = end - piece.num_draws; row < end; ++row) rows.push_back(row);
  }
  if (rows.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(draws_, HeadOf(Head(), rows, limits_.vocab_size, draw_logits_));
  return absl::OkStatus();
}

absl::Status ModelRunner::ScorePrompt(size_t index) {
  Piece& piece = pieces_[index];
  const SequenceSlice& slice = *piece.slice;
  const int32_t first = slice.num_tokens - slice.num_outputs;  // within the slice
  RequestOutput& output = piece.result.output;
  output.kind = OutputKind::kPromptLogprobs;
  output.begin = piece.begin + first + 1;
  for (int32_t begin = first; begin < slice.num_tokens; begin += kScoreRows) {
    const int32_t end = std::min(begin + kScoreRows, slice.num_tokens);
    std::vector<int32_t> rows;
    std::vector<TokenId> next;
    for (int32_t i = begin; i < end; ++i) {
      rows.push_back(piece.row_begin + i);
      next.push_back(plan_->tokens[slice.token_offset + i + 1]);
    }
    ASSIGN_OR_RETURN(const Tensor logits, HeadOf(Head(), rows, limits_.vocab_size, score_logits_));
    if (observer_) {
      std::vector<float> row(limits_.vocab_size);
      for (int32_t i = begin; i < end; ++i) {
        model_->device->CopyToHost(row.data(), logits.row(i - begin), row.size() * sizeof(float));
        observer_(piece.index, piece.begin + i, row);
      }
    }
    if (next.back() < 0) next.pop_back();  // the one to be drawn
    std::vector<SampledToken> scored(next.size());
    model_->device->ops().Score(logits, next, slice.num_logprobs, absl::MakeSpan(scored));
    std::move(scored.begin(), scored.end(), std::back_inserter(output.prompt_logprobs));
  }
  return absl::OkStatus();
}

absl::Status ModelRunner::ReadHidden(Piece& piece) {
  const ModelConfig& config = model_->config;
  RequestOutput& output = piece.result.output;
  output.kind = OutputKind::kHidden;
  const int32_t last = piece.row_begin + piece.slice->num_tokens - 1;
  if (config.encoder.num_labels > 0) {
    const int32_t labels = config.encoder.num_labels;
    ASSIGN_OR_RETURN(const Tensor scores, HeadOf(Head(), {piece.row_begin}, labels, score_logits_));
    output.hidden.resize(labels);
    model_->device->CopyToHost(output.hidden.data(), scores.data, labels * sizeof(float));
    return absl::OkStatus();
  }
  if (config.pooling != Pooling::kLast && piece.begin > 0) {
    return absl::InvalidArgumentError(absl::StrCat("broken plan: sequence ",
                                                   piece.slice->sequence.value,
                                                   " is pooled over positions of other steps"));
  }
  const int32_t first = config.pooling == Pooling::kLast ? last : piece.row_begin;
  const int32_t end = config.pooling == Pooling::kFirst ? first + 1 : last + 1;
  ASSIGN_OR_RETURN(const std::vector<float> rows, NormedRows(first, end - first));
  output.hidden.assign(config.hidden_size, 0.0f);
  for (size_t i = 0; i < rows.size(); ++i) output.hidden[i % config.hidden_size] += rows[i];
  for (float& v : output.hidden) v /= static_cast<float>(end - first);
  output.hidden = ApplyDenseModules(model_->dense, std::move(output.hidden));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> ModelRunner::NormedRows(int32_t first, int32_t count) {
  const int64_t hidden = model_->config.hidden_size;
  Device& device = *model_->device;
  RETURN_IF_ERROR(Grow(device, count * hidden * DTypeSize(options_.dtype), gathered_));
  const Tensor x{gathered_.data(), options_.dtype, count, hidden, hidden};
  std::vector<int32_t> rows(count);
  std::iota(rows.begin(), rows.end(), first);
  device.ops().GatherRows(network_->hidden(), rows, x);
  network_->FinalNorm(x, x);
  std::vector<float> out(count * hidden);
  if (options_.dtype == DType::kFloat32) {
    device.CopyToHost(out.data(), x.data, out.size() * sizeof(float));
    return out;
  }
  std::vector<uint16_t> halves(out.size());
  device.CopyToHost(halves.data(), x.data, halves.size() * sizeof(uint16_t));
  std::transform(halves.begin(), halves.end(), out.begin(),
                 options_.dtype == DType::kFloat16 ? Fp16ToFloat : Bf16ToFloat);
  return out;
}

absl::StatusOr<StepResult> ModelRunner::Sample(absl::Span<const OwnedMask> masks) {
  RETURN_IF_ERROR(fault_);
  int32_t rounds = 0;
  for (Piece& piece : pieces_) {
    piece.open = piece.num_draws > 0;
    rounds = std::max(rounds, piece.num_draws);
  }
  // Round j draws the j-th output of every slice whose drafts have been right so far: what a draw
  // depends on (penalties, min_tokens) is then the same as without drafts.
  for (int32_t round = 0; round < rounds; ++round) SampleRound(round, masks);
  if (rewind_ != nullptr) FinishRewind();
  RETURN_IF_ERROR(fault_);
  StepResult result;
  result.step = plan_->step;
  result.importing = moving_.importing;
  result.exporting = moving_.exporting;
  std::vector<Piece*> in_plan_order(pieces_.size());
  for (Piece& piece : pieces_) in_plan_order[piece.index] = &piece;
  for (Piece* piece : in_plan_order) {
    if (piece->slice->num_outputs > 0) result.slices.push_back(std::move(piece->result));
  }
  return result;
}

void ModelRunner::SampleRound(int32_t round, absl::Span<const OwnedMask> masks) {
  std::vector<SampleRow> rows;
  std::vector<Piece*> open;
  std::list<std::vector<TokenId>> banned;  // of rows with bad words; stays where it is
  for (Piece& piece : pieces_) {
    if (!piece.open || round >= piece.num_draws) continue;
    const SequenceSlice& slice = *piece.slice;
    const Slot& slot = *piece.slot;
    SampleRow row;
    row.row = piece.logits_begin + round;
    row.position = piece.begin + slice.num_tokens - piece.num_draws + round + 1;
    row.params = &slot.sampling;
    row.prompt_output_counts = slot.counts;
    if (row.position - slot.prompt_tokens < slot.sampling.min_tokens)
      row.banned = slot.stop_token_ids;
    if (!slot.sampling.bad_words.empty()) {
      std::vector<TokenId>& ids = banned.emplace_back(row.banned.begin(), row.banned.end());
      SlotTable::AppendBadWordEnds(slot, ids);
      row.banned = ids;
    }
    const int32_t output = slice.num_outputs - piece.num_draws + round;
    for (const OwnedMask& mask : masks) {
      if (&plan_->slices[mask.slice] != &slice || mask.output != output) continue;
      row.mask = mask.words;
      piece.last = mask.last;
    }
    rows.push_back(row);
    open.push_back(&piece);
  }
  std::vector<SampledToken> tokens(rows.size());
  model_->device->ops().Sample(draws_, rows, absl::MakeSpan(tokens));
  for (size_t i = 0; i < open.size(); ++i) open[i]->open = Take(*open[i], std::move(tokens[i]));
}

bool ModelRunner::Take(Piece& piece, SampledToken token) {
  const SequenceSlice& slice = *piece.slice;
  if (token.id < 0) {  // numbers have overflowed, of this sequence alone as far as is known
    piece.result.fault =
        absl::InternalError(absl::StrCat("the ", slice.adapter == kNoAdapter ? "model" : "adapter",
                                         "'s numbers are too large: no token has a probability"));
    slots_->Record(*piece.slot, 0, piece.begin + slice.num_tokens);  // of a step on its way
    return false;
  }
  const int32_t input =
      slice.num_tokens - piece.num_draws + piece.num_drawn;  // whose output this is
  slots_->Record(*piece.slot, token.id, piece.begin + input + 1);
  ++piece.num_drawn;
  // The next input, where there is one, is a draft: right if it is the token just drawn.
  const bool accepted =
      !piece.last && input + 1 < slice.num_tokens && ids_[piece.row_begin + input + 1] == token.id;
  if (accepted) ++piece.result.num_accepted;
  piece.result.tokens.push_back(std::move(token));
  return accepted;
}

}  // namespace penstock
