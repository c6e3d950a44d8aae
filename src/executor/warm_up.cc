#include "executor/warm_up.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "base/status_macros.h"
#include "executor/runner_driver.h"

namespace penstock {
namespace {

constexpr int32_t kShortPrompt = 64;
constexpr int32_t kFewSequences = 4;

/// Ids from all over the vocabulary, so that one broken row of it is not all there is to see.
std::vector<TokenId> SpreadIds(int64_t count, int32_t vocab_size) {
  std::vector<TokenId> ids(count);
  for (int64_t i = 0; i < count; ++i) ids[i] = static_cast<TokenId>((i * 7919 + 1) % vocab_size);
  return ids;
}

absl::Status NoNumbers() {
  return absl::InternalError(
      "the model computes no finite number: its files are damaged, or its numbers overflow "
      "(engine.dtype: float32 or bfloat16 hold larger ones than float16)");
}

absl::Status WarmUpEncoder(ModelRunner& runner) {
  const ExecutorLimits& limits = runner.limits();
  StepPlan plan;
  plan.step = StepId(1);
  plan.tokens = SpreadIds(std::min({kShortPrompt, limits.max_step_tokens, limits.max_context}),
                          limits.vocab_size);
  SlotSetup setup;
  setup.slot = SlotId(0);
  setup.sequence = SequenceId(1);
  setup.prompt_tokens = static_cast<int32_t>(plan.tokens.size());
  plan.setups.push_back(setup);
  SequenceSlice slice;
  slice.sequence = setup.sequence;
  slice.slot = setup.slot;
  slice.num_tokens = setup.prompt_tokens;
  slice.num_outputs = 1;
  slice.kind = OutputKind::kHidden;
  plan.slices.push_back(slice);
  RETURN_IF_ERROR(runner.Forward(plan));
  ASSIGN_OR_RETURN(const StepResult result, runner.Sample({}));
  const std::vector<float>& hidden = result.slices.at(0).output.hidden;
  if (std::none_of(hidden.begin(), hidden.end(), [](float v) { return std::isfinite(v); }))
    return NoNumbers();
  return absl::OkStatus();
}

/// Of the group that has fewest; a recurrent state is of the slot.
int32_t LeastBlocks(const ExecutorLimits& limits) {
  int32_t least = std::numeric_limits<int32_t>::max();
  for (const CacheGroup& group : limits.groups) {
    if (group.retention != CacheRetention::kRecurrent) least = std::min(least, group.num_blocks);
  }
  return least;
}

class DecoderWarmUp {
 public:
  DecoderWarmUp(ModelRunner& runner, bool wide)
      : limits_(runner.limits()), wide_(wide), driver_(&runner) {}

  absl::Status Run() {
    RETURN_IF_ERROR(Prefill());
    const int32_t most = std::min({wide_ ? limits_.num_slots : kFewSequences, limits_.num_slots,
                                   limits_.max_step_tokens, LeastBlocks(limits_)});
    for (int32_t count = 1; count < most; count *= 2) RETURN_IF_ERROR(Decode(count));
    RETURN_IF_ERROR(Decode(most));
    return any_token_ ? absl::OkStatus() : NoNumbers();
  }

 private:
  absl::Status Prefill() {
    const int64_t room = int64_t{LeastBlocks(limits_)} * limits_.block_size;
    const auto count = static_cast<int32_t>(
        std::min<int64_t>({room, wide_ ? limits_.max_step_tokens : kShortPrompt,
                           limits_.max_step_tokens, limits_.max_context - 1}));
    if (count < 1) return absl::OkStatus();
    DrivenSequence s = driver_.Begin(SpreadIds(count, limits_.vocab_size), false);
    RETURN_IF_ERROR(driver_.Step({{&s, count}}));
    Note(s);
    driver_.End(s);
    return absl::OkStatus();
  }

  /// Prompts of one position each: one step is a step of decoding.
  absl::Status Decode(int32_t count) {
    std::vector<DrivenSequence> sequences;
    for (const TokenId id : SpreadIds(count, limits_.vocab_size))
      sequences.push_back(driver_.Begin({id}, false));
    std::vector<RunnerDriver::Item> items;
    for (DrivenSequence& s : sequences) items.push_back({&s, 1});
    RETURN_IF_ERROR(driver_.Step(items));
    for (DrivenSequence& s : sequences) {
      Note(s);
      driver_.End(s);
    }
    return absl::OkStatus();
  }

  void Note(const DrivenSequence& s) {
    any_token_ |= static_cast<int32_t>(s.tokens.size()) > s.num_prompt;
  }

  const ExecutorLimits& limits_;
  const bool wide_;
  RunnerDriver driver_;
  bool any_token_ = false;
};

}  // namespace

absl::Status WarmUp(ModelRunner& runner, bool wide) {
  if (!runner.limits().can_chunk) return WarmUpEncoder(runner);
  return DecoderWarmUp(runner, wide).Run();
}

}  // namespace penstock
