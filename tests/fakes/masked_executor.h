// Grammars of a few tokens, and an executor that draws the first token which a row's mask allows.
// Owns the plans of steps in flight. Must not know schedulers.
// Threads: the executor is confined to the engine's thread.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "penstock/executor.h"
#include "penstock/grammar.h"

namespace penstock {

inline constexpr int32_t kMaskedVocab = 100;

inline ExecutorLimits MaskedLimits(int32_t num_slots, int32_t num_blocks, int pipeline_depth) {
  ExecutorLimits limits;
  limits.groups = {{CacheRetention::kFull, 0, 1024, num_blocks}};
  limits.num_slots = num_slots;
  limits.pipeline_depth = pipeline_depth;
  limits.max_step_tokens = 64;
  limits.max_context = 1024;
  limits.vocab_size = kMaskedVocab;
  return limits;
}
inline constexpr TokenId kMaskedEos = 99;

/// Allows 10, 11, 12, 10, 11 ...: `length` of them.
class CycleMatcher final : public TokenMatcher {
 public:
  explicit CycleMatcher(int32_t length) : length_(length) {}
  bool Accept(TokenId id) override {
    if (at_ == length_ || id != 10 + at_ % 3) return false;
    ++at_;
    return true;
  }
  void Rollback(int32_t num_tokens) override { at_ -= num_tokens; }
  bool finished() const override { return at_ >= length_ - 1; }
  bool ended() const override { return at_ == length_; }
  void FillMask(absl::Span<uint32_t> words) override {
    std::fill(words.begin(), words.end(), 0);
    if (at_ < length_) words[0] |= 1u << (10 + at_ % 3);
  }

 private:
  const int32_t length_;
  int32_t at_ = 0;
};

class CycleGrammar final : public TokenGrammar {
 public:
  explicit CycleGrammar(int32_t length) : length_(length) {}
  std::unique_ptr<TokenMatcher> Start() const override {
    return std::make_unique<CycleMatcher>(length_);
  }

 private:
  const int32_t length_;
};

/// 30 or 31, then five tokens of one text, each of which may be written as 10 + i, or as 40 + i; and
/// again.
class RunMatcher final : public TokenMatcher {
 public:
  bool Accept(TokenId id) override {
    const int32_t i = at_ % kRun;
    if (i == 0 ? id != 30 && id != 31 : id != 10 + i && id != 40 + i) return false;
    ++at_;
    return true;
  }
  void Rollback(int32_t num_tokens) override { at_ -= num_tokens; }
  bool finished() const override { return false; }
  bool ended() const override { return false; }
  absl::Span<const TokenId> Forced() override {
    static constexpr TokenId kForced[] = {11, 12, 13, 14, 15};
    const int32_t i = at_ % kRun;
    if (i == 0) return {};
    return absl::MakeConstSpan(kForced).subspan(static_cast<size_t>(i) - 1);
  }
  void FillMask(absl::Span<uint32_t> words) override {
    std::fill(words.begin(), words.end(), 0);
    const int32_t i = at_ % kRun;
    for (const TokenId id : {i == 0 ? 30 : 10 + i, i == 0 ? 31 : 40 + i})
      words[id / 32] |= 1u << (id % 32);
  }

 private:
  static constexpr int32_t kRun = 6;
  int32_t at_ = 0;
};

class RunGrammar final : public TokenGrammar {
 public:
  std::unique_ptr<TokenMatcher> Start() const override { return std::make_unique<RunMatcher>(); }
};

/// 10, 11, 12, 10 ... where from the `turn`-th token on 5 may be written as well, which the executor
/// prefers. Whoever has written the `ambiguous`-th token as one of the cycle, or at all (`anyway`),
/// stands where it is too ambiguous. Accept says so (`at_once`), or no less than FillMask.
struct AmbiguousCycle {
  int32_t turn = 0, ambiguous = 0;
  bool anyway = false, at_once = false;
};
class AmbiguousMatcher final : public TokenMatcher {
 public:
  explicit AmbiguousMatcher(AmbiguousCycle cycle) : cycle_(cycle) {}
  bool Accept(TokenId id) override {
    if (id != 5 && id != 10 + static_cast<int32_t>(ids_.size()) % 3) return false;
    ids_.push_back(id);
    said_ = cycle_.at_once && Passed();
    return true;
  }
  void Rollback(int32_t num_tokens) override {
    ids_.resize(ids_.size() - num_tokens);
    said_ = cycle_.at_once && Passed();
  }
  bool finished() const override { return false; }
  bool ended() const override { return false; }
  absl::Status too_ambiguous() const override {
    return said_ ? absl::InvalidArgumentError("so many ways") : absl::OkStatus();
  }
  void FillMask(absl::Span<uint32_t> words) override {
    std::fill(words.begin(), words.end(), 0);
    said_ = Passed();
    if (said_) return;
    const auto at = static_cast<int32_t>(ids_.size());
    words[0] |= 1u << (10 + at % 3);
    if (at >= cycle_.turn) words[0] |= 1u << 5;
  }

 private:
  bool Passed() const {
    const auto size = static_cast<int32_t>(ids_.size());
    return size >= cycle_.ambiguous && (cycle_.anyway || ids_[cycle_.ambiguous - 1] != 5);
  }
  const AmbiguousCycle cycle_;
  std::vector<TokenId> ids_;
  bool said_ = false;
};

class AmbiguousGrammar final : public TokenGrammar {
 public:
  explicit AmbiguousGrammar(AmbiguousCycle cycle) : cycle_(cycle) {}
  std::unique_ptr<TokenMatcher> Start() const override {
    return std::make_unique<AmbiguousMatcher>(cycle_);
  }

 private:
  const AmbiguousCycle cycle_;
};

/// Draws the first token that a row's mask allows; without one, token 1.
class FirstAllowedExecutor final : public Executor {
 public:
  explicit FirstAllowedExecutor(ExecutorLimits limits) : limits_(std::move(limits)) {}
  const ExecutorLimits& limits() const override { return limits_; }
  /// Runs where the forward pass of a step with masks does.
  std::function<absl::Status()> on_forward;
  std::function<void()> on_sample;

  absl::Status Launch(const StepPlan& plan) override {
    steps_.push_back({plan, {}, {}});
    ++num_steps;
    return absl::OkStatus();
  }
  absl::Status Forward() override { return on_forward ? on_forward() : absl::OkStatus(); }
  absl::Status Sample(StepId step, absl::Span<const RowMask> masks) override {
    EXPECT_EQ(steps_.back().plan.step, step);
    if (on_sample) on_sample();
    for (const RowMask& mask : masks) {
      steps_.back().masks[{mask.slice, mask.output}] = {mask.words.begin(), mask.words.end()};
      if (mask.last) steps_.back().last[mask.slice] = mask.output;
    }
    return absl::OkStatus();
  }
  absl::StatusOr<StepResult> Collect() override {
    const Step step = std::move(steps_.front());
    steps_.pop_front();
    StepResult result;
    result.step = step.plan.step;
    for (size_t i = 0; i < step.plan.slices.size(); ++i) {
      const SequenceSlice& slice = step.plan.slices[i];
      if (slice.num_outputs == 0) continue;
      SliceResult& out = result.slices.emplace_back();
      out.sequence = slice.sequence;
      out.slot = slice.slot;
      for (int32_t row = 0; row <= slice.num_drafts; ++row) {
        const auto mask = step.masks.find({static_cast<int32_t>(i), row});
        const TokenId id = mask == step.masks.end() ? 1 : First(mask->second);
        out.tokens.emplace_back().id = id;
        const int32_t next = slice.token_offset + slice.num_tokens - slice.num_drafts + row;
        if (row == slice.num_drafts || step.plan.tokens[next] != id) break;
        const auto last = step.last.find(static_cast<int32_t>(i));
        if (last != step.last.end() && last->second == row) break;
        ++out.num_accepted;
        ++num_accepted;
      }
    }
    return result;
  }
  absl::Status Control(const Command&) override { return absl::OkStatus(); }

  int32_t num_accepted = 0, num_steps = 0;

 private:
  struct Step {
    StepPlan plan;
    std::map<std::pair<int32_t, int32_t>, std::vector<uint32_t>> masks;
    std::map<int32_t, int32_t> last;  // by slice: the row behind which none is drawn from
  };
  static TokenId First(const std::vector<uint32_t>& words) {
    for (TokenId id = 0; id < kMaskedVocab; ++id) {
      if ((words[id / 32] >> (id % 32) & 1) != 0) return id;
    }
    return -1;
  }

  const ExecutorLimits limits_;
  std::deque<Step> steps_;
};

}  // namespace penstock
