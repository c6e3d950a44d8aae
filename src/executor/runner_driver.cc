#include "executor/runner_driver.h"

#include <algorithm>
#include <cstring>

#include "base/status_macros.h"

namespace penstock {

RunnerDriver::RunnerDriver(ModelRunner* runner) : runner_(runner) {
  for (const CacheGroup& group : runner->limits().groups) {
    if (group.retention == CacheRetention::kRecurrent)
      state_group_ = static_cast<int32_t>(free_blocks_.size());
    std::vector<BlockId>& ids = free_blocks_.emplace_back(group.num_blocks);
    // Neither in order nor contiguous, so that a kernel which ignores the table is found out.
    for (int32_t i = 0; i < group.num_blocks; ++i) ids[i] = i;
    for (int32_t i = 0; i + 1 < group.num_blocks; i += 2)
      std::swap(ids[i], ids[group.num_blocks - 1 - i]);
  }
  for (int32_t i = 0; i < runner->limits().num_slots; ++i) free_slots_.push_back(SlotId(i));
  runner->set_observer([this](size_t slice, int32_t position, absl::Span<const float> logits) {
    DrivenSequence& s = *observed_[slice];
    if (s.logits.empty() || position >= s.num_prompt) return;
    std::copy(logits.begin(), logits.end(), s.logits.begin() + int64_t{position} * logits.size());
  });
}

RunnerDriver::~RunnerDriver() { runner_->set_observer(nullptr); }

DrivenSequence RunnerDriver::Begin(absl::Span<const TokenId> prompt, bool keep_logits,
                                   AdapterId adapter) {
  CHECK(!free_slots_.empty());
  DrivenSequence s;
  s.tokens.assign(prompt.begin(), prompt.end());
  s.num_prompt = static_cast<int32_t>(prompt.size());
  s.blocks.resize(free_blocks_.size());
  s.num_sent.resize(free_blocks_.size());
  if (keep_logits) s.logits.resize(prompt.size() * runner_->limits().vocab_size);
  s.sampling.temperature = 0.0f;
  s.id = SequenceId(next_id_++);
  s.adapter = adapter;
  s.slot = free_slots_.back();
  free_slots_.pop_back();
  return s;
}

void RunnerDriver::SharePrefix(const DrivenSequence& donor, int32_t num_positions,
                               DrivenSequence& s) {
  const int32_t count = num_positions / runner_->limits().block_size;
  if (state_group_ >= 0 && num_positions > 0) s.state_load = donor.states.at(num_positions);
  for (size_t g = 0; g < s.blocks.size(); ++g) {
    if (static_cast<int32_t>(g) == state_group_) continue;
    s.blocks[g].assign(donor.blocks[g].begin(), donor.blocks[g].begin() + count);
  }
  s.num_computed = num_positions;
  std::copy(donor.logits.begin(),
            donor.logits.begin() + std::min(s.logits.size(), donor.logits.size()),
            s.logits.begin());
}

void RunnerDriver::Preempt(DrivenSequence& s) {
  for (size_t g = 0; g < s.blocks.size(); ++g) {  // to the front: the next ones taken are others
    free_blocks_[g].insert(free_blocks_[g].begin(), s.blocks[g].begin(), s.blocks[g].end());
    s.blocks[g].clear();
    s.num_sent[g] = 0;
  }
  for (const auto& [position, block] : s.states) free_blocks_[state_group_].push_back(block);
  s.states.clear();
  s.num_computed = 0;
  s.setup_sent = false;
}

void RunnerDriver::End(DrivenSequence& s, int32_t num_shared_positions) {
  const int32_t shared = num_shared_positions / runner_->limits().block_size;
  for (size_t g = 0; g < s.blocks.size(); ++g)
    s.blocks[g].erase(s.blocks[g].begin(),
                      s.blocks[g].begin() + std::min<size_t>(shared, s.blocks[g].size()));
  Preempt(s);
  free_slots_.push_back(s.slot);
}

/// A snapshot at each block border that a slice ends at, while there is room.
void RunnerDriver::AddStates(DrivenSequence& s, SequenceSlice& slice) {
  if (state_group_ < 0) return;
  std::vector<BlockId>& free = free_blocks_[state_group_];
  slice.state.load = s.state_load;
  s.state_load = kNoBlock;
  const int32_t end = slice.begin + slice.num_tokens;
  if (end % runner_->limits().block_size != 0 || free.empty()) return;
  slice.state.store = free.back();
  s.states[end] = free.back();
  free.pop_back();
}

void RunnerDriver::AddSlice(const Item& item, StepPlan& plan) {
  DrivenSequence& s = *item.sequence;
  const bool drafts = runner_->limits().max_model_drafts > 0;
  if (!s.setup_sent) {
    SlotSetup setup;
    setup.slot = s.slot;
    setup.sequence = s.id;
    setup.sampling = s.sampling;
    setup.prompt_tokens = s.num_prompt;
    if (s.sampling.needs_history() || drafts) setup.history = s.tokens;
    plan.setups.push_back(std::move(setup));
    s.setup_sent = true;
  }
  const auto known = static_cast<int32_t>(s.tokens.size());
  const int32_t end = s.num_computed + item.num_tokens;
  CHECK(item.num_tokens > 0 && end <= known);
  SequenceSlice slice;
  slice.sequence = s.id;
  slice.slot = s.slot;
  slice.adapter = s.adapter;
  slice.begin = s.num_computed;
  slice.num_tokens = item.num_tokens;
  slice.draft_along = drafts;
  slice.token_offset = static_cast<int32_t>(plan.tokens.size());
  plan.tokens.insert(plan.tokens.end(), s.tokens.begin() + s.num_computed, s.tokens.begin() + end);
  if (!s.logits.empty() && s.num_computed < s.num_prompt) {
    slice.kind = OutputKind::kPromptLogprobs;
    slice.num_outputs = item.num_tokens;
    plan.tokens.push_back(end < known ? s.tokens[end] : -1);
  } else if (end == known) {
    slice.kind = OutputKind::kToken;
    slice.num_outputs = 1;
  }
  for (size_t g = 0; g < s.blocks.size(); ++g) {
    const int32_t block_size = runner_->limits().block_size;
    while (static_cast<int32_t>(g) != state_group_ &&
           static_cast<int32_t>(s.blocks[g].size()) * block_size < end) {
      CHECK(!free_blocks_[g].empty());
      s.blocks[g].push_back(free_blocks_[g].back());
      free_blocks_[g].pop_back();
    }
    slice.blocks[g].begin = static_cast<int32_t>(plan.block_ids.size());
    slice.blocks[g].count = static_cast<int32_t>(s.blocks[g].size()) - s.num_sent[g];
    plan.block_ids.insert(plan.block_ids.end(), s.blocks[g].begin() + s.num_sent[g],
                          s.blocks[g].end());
    s.num_sent[g] = static_cast<int32_t>(s.blocks[g].size());
  }
  AddStates(s, slice);
  s.num_computed = end;
  plan.slices.push_back(slice);
}

absl::Status RunnerDriver::Step(absl::Span<const Item> items) {
  StepPlan plan;
  plan.step = StepId(next_step_++);
  observed_.clear();
  for (const Item& item : items) {
    AddSlice(item, plan);
    observed_.push_back(item.sequence);
  }
  RETURN_IF_ERROR(runner_->Forward(plan));
  ASSIGN_OR_RETURN(const StepResult result, runner_->Sample({}));
  for (const SliceResult& slice : result.slices) {
    for (const Item& item : items) {
      if (item.sequence->id != slice.sequence) continue;
      for (const SampledToken& token : slice.tokens) item.sequence->tokens.push_back(token.id);
    }
  }
  return absl::OkStatus();
}

absl::Status RunnerDriver::Run(DrivenSequence& s, int32_t chunk, int32_t num_tokens) {
  while (static_cast<int32_t>(s.tokens.size()) < s.num_prompt + num_tokens ||
         s.num_computed < s.num_prompt) {
    const int32_t left = static_cast<int32_t>(s.tokens.size()) - s.num_computed;
    RETURN_IF_ERROR(Step({{&s, std::min({left, chunk, runner_->limits().max_step_tokens})}}));
  }
  return absl::OkStatus();
}

}  // namespace penstock
