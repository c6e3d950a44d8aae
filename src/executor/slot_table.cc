#include "executor/slot_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace penstock {

namespace {

// Keeps twice what the longest bad word needs, and drops the older half when it is full.
void Remember(Slot& slot, TokenId token) {
  size_t longest = 0;
  for (const auto& word : slot.sampling.bad_words) longest = std::max(longest, word.size());
  if (longest < 2) return;
  if (slot.output.size() >= 2 * longest)
    slot.output.erase(slot.output.begin(), slot.output.end() - longest);
  slot.output.push_back(token);
}

}  // namespace

SlotTable::SlotTable(const ExecutorLimits& limits)
    : limits_(limits),
      max_blocks_((limits.max_context + limits.block_size - 1) / limits.block_size),
      slots_(limits.num_slots),
      tables_(limits.groups.size(),
              std::vector<BlockId>(size_t(limits.num_slots) * max_blocks_, kNoBlock)) {}

absl::Status SlotTable::Setup(const SlotSetup& setup) {
  if (!Exists(setup.slot)) {
    return absl::InvalidArgumentError(
        absl::StrCat("broken plan: slot ", setup.slot.value, " does not exist"));
  }
  Slot& slot = slots_[setup.slot.value];
  slot = Slot();
  slot.sequence = setup.sequence;
  slot.in_use = true;
  slot.sampling = setup.sampling;
  slot.stop_token_ids = setup.stop_token_ids;
  slot.prompt_tokens = setup.prompt_tokens;
  slot.second_segment = setup.second_segment;
  if (limits_.max_model_drafts > 0) {
    slot.tokens = setup.history;
    const SamplingParams& s = setup.sampling;
    slot.draft_sampling.temperature = s.temperature;
    slot.draft_sampling.top_k = s.top_k;
    slot.draft_sampling.top_p = s.top_p;
    slot.draft_sampling.min_p = s.min_p;
    slot.draft_sampling.seed = s.seed;
  }
  const size_t prompt = std::min(setup.history.size(), size_t(std::max(0, setup.prompt_tokens)));
  for (size_t i = prompt; i < setup.history.size(); ++i) Remember(slot, setup.history[i]);
  if (!setup.sampling.needs_counts()) return absl::OkStatus();
  slot.counts.assign(2 * size_t(limits_.vocab_size), 0);
  for (size_t i = 0; i < setup.history.size(); ++i) {
    const TokenId id = setup.history[i];
    if (id < 0 || id >= limits_.vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("broken plan: token ", id, " is outside the vocabulary"));
    }
    const bool output = i >= static_cast<size_t>(std::max(0, setup.prompt_tokens));
    ++slot.counts[id + (output ? limits_.vocab_size : 0)];
  }
  return absl::OkStatus();
}

absl::Status SlotTable::AppendBlocks(const StepPlan& plan, const SequenceSlice& slice) {
  if (!Exists(slice.slot) || !slots_[slice.slot.value].in_use ||
      slots_[slice.slot.value].sequence != slice.sequence) {
    return absl::InvalidArgumentError(absl::StrCat("broken plan: slot ", slice.slot.value,
                                                   " was not set up for sequence ",
                                                   slice.sequence.value));
  }
  Slot& slot = slots_[slice.slot.value];
  for (size_t g = 0; g < limits_.groups.size(); ++g) {
    const BlockDelta& delta = slice.blocks[g];
    const auto total = static_cast<int64_t>(plan.block_ids.size());
    if (delta.begin < 0 || delta.count < 0 || int64_t{delta.begin} + delta.count > total ||
        slot.num_blocks[g] + delta.count > max_blocks_) {
      return absl::InvalidArgumentError(absl::StrCat(
          "broken plan: blocks of sequence ", slice.sequence.value, " do not fit its table"));
    }
    BlockId* table = tables_[g].data() + int64_t{slice.slot.value} * max_blocks_;
    for (int32_t i = 0; i < delta.count; ++i) {
      const BlockId block = plan.block_ids[delta.begin + i];
      if (block < kNoBlock || block >= limits_.groups[g].num_blocks) {
        return absl::InvalidArgumentError(
            absl::StrCat("broken plan: block ", block, " does not exist"));
      }
      table[slot.num_blocks[g]++] = block;
    }
  }
  return absl::OkStatus();
}

bool SlotTable::Covers(const Slot& slot, int32_t slot_index, int32_t begin, int32_t end) const {
  for (size_t g = 0; g < limits_.groups.size(); ++g) {
    const CacheGroup& group = limits_.groups[g];
    if (group.retention == CacheRetention::kRecurrent) continue;
    const int32_t oldest =
        group.retention == CacheRetention::kWindow ? std::max(0, begin - group.window + 1) : 0;
    const BlockId* table = tables_[g].data() + int64_t{slot_index} * max_blocks_;
    for (int32_t b = oldest / limits_.block_size; b <= (end - 1) / limits_.block_size; ++b) {
      if (b >= slot.num_blocks[g] || table[b] == kNoBlock) return false;
    }
  }
  return true;
}

void SlotTable::AppendBadWordEnds(const Slot& slot, std::vector<TokenId>& banned) {
  for (const std::vector<TokenId>& word : slot.sampling.bad_words) {
    if (word.empty() || word.size() - 1 > slot.output.size()) continue;
    if (std::equal(word.begin(), word.end() - 1, slot.output.end() - (word.size() - 1)))
      banned.push_back(word.back());
  }
}

void SlotTable::Record(Slot& slot, TokenId token, int32_t position) {
  slot.last_sample = token;
  slot.last_sample_position = position;
  if (limits_.max_model_drafts > 0) {
    slot.tokens.resize(position);
    slot.tokens.push_back(token);
  }
  Remember(slot, token);
  if (!slot.counts.empty()) ++slot.counts[limits_.vocab_size + token];
}

}  // namespace penstock
