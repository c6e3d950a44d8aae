// An executor without a model: it stores token ids where a real one stores K and V, and draws each
// token from a hash of what it reads back through the block tables, and of the state that its slot
// carries where there is a recurrent group. A wrong block, a lost write or a stale share shows as
// a wrong token.
// Owns its storage. Must not know the scheduler.
// Threads: confined to the test's thread (or the engine thread).
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "base/status_macros.h"
#include "penstock/executor.h"

namespace penstock {

class FakeExecutor final : public Executor {
 public:
  explicit FakeExecutor(ExecutorLimits limits) : limits_(std::move(limits)) {
    for (const CacheGroup& group : limits_.groups) {
      storage_.emplace_back(static_cast<size_t>(group.num_blocks) * limits_.block_size, Cell{});
      tier_.emplace_back(static_cast<size_t>(group.tier_blocks) * limits_.block_size, Cell{});
      if (Recurrent(group)) snapshots_.resize(group.num_blocks);
    }
    slots_.resize(limits_.num_slots);
  }

  /// Called before each launch; a status other than OK is the device fault of that step, seen at
  /// Collect.
  std::function<absl::Status(const StepPlan&)> on_launch;
  AdapterId fault_of = kNoAdapter;  // whose sequences get a fault of their own
  int64_t num_steps = 0;
  int64_t num_computed = 0;  // positions
  int64_t num_accepted = 0;  // drafts
  int64_t num_imported = 0;  // blocks
  int64_t num_exported = 0;
  absl::Duration export_time;  // what each takes
  absl::Duration import_time;  // what each takes
  StepPlan last_plan;

  /// The token that follows `history` under these limits.
  static TokenId NextToken(const ExecutorLimits& limits, const std::vector<TokenId>& history,
                           AdapterId adapter = kNoAdapter) {
    uint64_t h = 0;
    for (const CacheGroup& group : limits.groups) {
      uint64_t of_group = Recurrent(group) ? 0 : h;
      for (size_t p = First(group, history.size()); p < history.size(); ++p)
        of_group = Mix(of_group, history[p], p, adapter);
      h = Recurrent(group) ? h ^ of_group : of_group;
    }
    return Draw(limits, h, history.back());
  }

  const ExecutorLimits& limits() const override { return limits_; }

  absl::Status Launch(const StepPlan& plan) override {
    CHECK(static_cast<int32_t>(results_.size()) < limits_.pipeline_depth);
    last_plan = plan;
    if (on_launch && fault_.ok()) fault_ = on_launch(plan);
    StepResult result;
    result.step = plan.step;
    if (fault_.ok()) Execute(plan, result);
    result.controls = std::move(controls_);
    controls_.clear();
    results_.push_back(std::move(result));
    ++num_steps;
    return absl::OkStatus();
  }
  absl::Status Sample(StepId step, absl::Span<const RowMask>) override {
    CHECK(!results_.empty() && results_.back().step == step);
    return absl::OkStatus();
  }
  absl::StatusOr<StepResult> Collect() override {
    CHECK(!results_.empty());
    StepResult result = std::move(results_.front());
    results_.pop_front();
    if (!fault_.ok()) return fault_;
    return result;
  }
  absl::Status Control(const Command& command) override {
    if (command.kind == CommandKind::kLoadAdapter && limits_.max_adapters == 0)
      return absl::UnimplementedError("no adapters here");
    if (command.kind == CommandKind::kLoadAdapter) CHECK(adapters_.insert(command.adapter).second);
    if (command.kind == CommandKind::kUnloadAdapter) CHECK(adapters_.erase(command.adapter) == 1);
    controls_.push_back(absl::OkStatus());
    return absl::OkStatus();
  }

 private:
  struct Cell {
    TokenId token = -1;
    int32_t position = -1;
    AdapterId adapter = kNoAdapter;  // that it was computed with
  };
  struct State {
    uint64_t hash = 0;
    int32_t position = 0;
    TokenId last = -1;
  };
  struct Slot {
    SequenceId sequence;
    std::vector<std::vector<BlockId>> tables;
    TokenId last_sample = -1;
    State state;
    std::map<int32_t, State> drafted;  // of a slice with guesses, by the position after each
    int32_t last_sample_position = -1;
  };
  static bool Recurrent(const CacheGroup& group) {
    return group.retention == CacheRetention::kRecurrent;
  }

  static uint64_t Mix(uint64_t h, TokenId token, size_t position, AdapterId adapter) {
    h ^= (static_cast<uint64_t>(token) + 1) * 0x9E3779B97F4A7C15ULL + position;
    h ^= static_cast<uint64_t>(adapter.value + 1) << 40;
    h *= 0xBF58476D1CE4E5B9ULL;
    return h ^ (h >> 29);
  }
  /// Mostly a walk that comes round again, so that there is something to draft; at times a leap that
  /// depends on everything before.
  static TokenId Draw(const ExecutorLimits& limits, uint64_t h, TokenId last) {
    if ((h >> 33) % 8 != 0) return (last * 7 + 3) % limits.vocab_size;
    return static_cast<TokenId>((h >> 7) % limits.vocab_size);
  }
  static size_t First(const CacheGroup& group, size_t end) {
    if (group.retention != CacheRetention::kWindow) return 0;
    return end > static_cast<size_t>(group.window) ? end - group.window : 0;
  }

  void Move(const BlockMove& move) {
    const auto size = static_cast<size_t>(limits_.block_size);
    std::vector<Cell>& blocks = storage_.at(move.group);
    std::vector<Cell>& places = tier_.at(move.group);
    CHECK(move.block >= 0 && (move.block + 1) * size <= blocks.size());
    CHECK(move.place >= 0 && (move.place + 1) * size <= places.size());
    const auto block = blocks.begin() + static_cast<int64_t>(move.block * size);
    const auto place = places.begin() + static_cast<int64_t>(move.place * size);
    if (!move.to_block) {
      std::copy_n(block, size, place);
      ++num_exported;
      return;
    }
    std::copy_n(place, size, block);
    ++num_imported;
  }

  void Execute(const StepPlan& plan, StepResult& result) {
    const int64_t imported_before = num_imported;
    const int64_t exported_before = num_exported;
    for (const BlockMove& move : plan.moves) Move(move);
    result.importing = static_cast<double>(num_imported - imported_before) * import_time;
    result.exporting = static_cast<double>(num_exported - exported_before) * export_time;
    for (const SlotSetup& setup : plan.setups) {
      Slot& slot = slots_.at(setup.slot.value);
      // The state of whoever had the slot before stays: a slice says what it starts from.
      slot = Slot{setup.sequence,
                  std::vector<std::vector<BlockId>>(limits_.groups.size()),
                  -1,
                  slot.state,
                  {},
                  -1};
    }
    int32_t total = 0;
    std::set<AdapterId> named;
    for (const SequenceSlice& slice : plan.slices) {
      LoadState(slice);
      if (slice.adapter == kNoAdapter) continue;
      CHECK(adapters_.contains(slice.adapter));
      named.insert(slice.adapter);
    }
    CHECK(static_cast<int32_t>(named.size()) <= limits_.max_adapters);
    for (const SequenceSlice& slice : plan.slices) {
      total += slice.num_tokens;
      Write(plan, slice);
    }
    CHECK(total <= limits_.max_step_tokens);
    num_computed += total;
    for (const SequenceSlice& slice : plan.slices) {
      if (slice.num_outputs > 0) Read(plan, slice, result);
    }
    for (const SequenceSlice& slice : plan.slices) {
      if (slice.state.store != kNoBlock)
        snapshots_.at(slice.state.store) = slots_.at(slice.slot.value).state;
    }
  }

  void LoadState(const SequenceSlice& slice) {
    Slot& slot = slots_.at(slice.slot.value);
    if (slice.state.load != kNoBlock) {
      slot.state = snapshots_.at(slice.state.load);
    } else if (slice.begin == 0) {
      slot.state = State{};
    }
  }

  /// While a verification is in flight only the device knows where it ends.
  static int32_t Begin(const Slot& slot, const SequenceSlice& slice) {
    if (!slice.begin_on_device) return slice.begin;
    CHECK(slot.last_sample_position >= 0 && slot.last_sample_position <= slice.begin);
    return slot.last_sample_position;
  }

  void Write(const StepPlan& plan, const SequenceSlice& slice) {
    Slot& slot = slots_.at(slice.slot.value);
    CHECK(slot.sequence == slice.sequence);
    CHECK(slice.num_tokens > 0 && slice.begin + slice.num_tokens <= limits_.max_context);
    for (size_t g = 0; g < limits_.groups.size(); ++g) {
      const auto first = plan.block_ids.begin() + slice.blocks[g].begin;
      slot.tables[g].insert(slot.tables[g].end(), first, first + slice.blocks[g].count);
    }
    const int32_t begin = Begin(slot, slice);
    for (int32_t i = 0; i < slice.num_tokens; ++i) {
      TokenId token = plan.tokens.at(slice.token_offset + i);
      if (slice.feed_last_sample && i == 0) token = slot.last_sample;
      if (token < 0 && limits_.max_model_drafts > 0 && i >= slice.num_tokens - slice.num_drafts)
        token = Guess(slot, begin + i);
      CHECK(token >= 0 && token < limits_.vocab_size);
      for (size_t g = 0; g < limits_.groups.size(); ++g) {
        if (Recurrent(limits_.groups[g])) {
          CHECK(slot.state.position == begin + i);
          CHECK(slice.num_drafts == 0 || limits_.max_model_drafts > 0);
          slot.state = {Mix(slot.state.hash, token, begin + i, slice.adapter), begin + i + 1,
                        token};
          if (slice.num_drafts > 0) slot.drafted[begin + i + 1] = slot.state;
        } else {
          At(slot, g, begin + i) = {token, begin + i, slice.adapter};
        }
      }
    }
  }

  /// Of the draft model: three times of four the token that will be drawn.
  TokenId Guess(const Slot& slot, int32_t position) {
    const uint64_t hash = Hash(slot, position);
    const TokenId right = Draw(limits_, hash, last_token_);
    return hash % 4 == 0 ? (right + 1) % limits_.vocab_size : right;
  }

  Cell& At(const Slot& slot, size_t group, int32_t position) {
    const BlockId block = slot.tables[group].at(position / limits_.block_size);
    CHECK(block >= 0 && block < limits_.groups[group].num_blocks);
    return storage_[group].at(static_cast<size_t>(block) * limits_.block_size +
                              position % limits_.block_size);
  }

  void Read(const StepPlan& plan, const SequenceSlice& slice, StepResult& result) {
    Slot& slot = slots_.at(slice.slot.value);
    SliceResult out;
    out.sequence = slice.sequence;
    out.slot = slice.slot;
    const int32_t begin = Begin(slot, slice);
    const int32_t end = begin + slice.num_tokens;
    bool draws = slice.kind == OutputKind::kToken;
    if (slice.kind == OutputKind::kPromptLogprobs) {
      out.output.kind = slice.kind;
      out.output.begin = slice.begin + 1;
      for (int32_t i = 1; i <= slice.num_tokens; ++i) {
        const TokenId scored = plan.tokens.at(slice.token_offset + i);
        if (scored >= 0)
          out.output.prompt_logprobs.push_back({.id = scored, .logprob = -1.0f, .top = {}});
        draws = draws || scored < 0;
      }
    } else if (slice.kind == OutputKind::kHidden) {
      out.output.kind = slice.kind;
      out.output.hidden = {static_cast<float>(Hash(slot, end) % 1000)};
    }
    const size_t cells = Recurrent(limits_.groups[0]) ? 1 : 0;  // a group that has them
    for (int32_t p = end - slice.num_drafts; draws; ++p) {
      if (const auto it = slot.drafted.find(p); it != slot.drafted.end()) slot.state = it->second;
      const uint64_t hash = Hash(slot, p);  // leaves the last token that it has read
      slot.last_sample = Draw(limits_, hash, last_token_);
      slot.last_sample_position = p;
      out.tokens.push_back({.id = slot.last_sample, .top = {}});
      if (p == end || At(slot, cells, p).token != slot.last_sample) break;
      ++out.num_accepted;
      ++num_accepted;
    }
    slot.drafted.clear();  // and the state is that of what was right
    if (fault_of != kNoAdapter && slice.adapter == fault_of) {
      out.fault = absl::InternalError("no number");
      out.tokens.clear();
    }
    result.slices.push_back(std::move(out));
  }

  uint64_t Hash(const Slot& slot, int32_t end) {
    uint64_t h = 0;
    if (slot.state.position == end) last_token_ = slot.state.last;
    for (size_t g = 0; g < limits_.groups.size(); ++g) {
      if (Recurrent(limits_.groups[g])) {
        CHECK(slot.state.position == end);
        h ^= slot.state.hash;
        continue;
      }
      for (size_t p = First(limits_.groups[g], end); p < static_cast<size_t>(end); ++p) {
        const Cell& cell = At(slot, g, p);
        CHECK(cell.position == static_cast<int32_t>(p));
        h = Mix(h, cell.token, p, cell.adapter);
        last_token_ = cell.token;
      }
    }
    return h;
  }

  const ExecutorLimits limits_;
  std::vector<std::vector<Cell>> storage_;
  std::vector<std::vector<Cell>> tier_;
  std::vector<State> snapshots_;
  std::vector<Slot> slots_;
  TokenId last_token_ = -1;  // that the last Hash has read
  std::deque<StepResult> results_;
  std::set<AdapterId> adapters_;  // loaded
  std::vector<absl::Status> controls_;
  absl::Status fault_;
};

/// Records what a sink is told, and fails the process on a second OnDone.
class RecordingSink final : public TokenSink {
 public:
  void OnTokens(absl::Span<const SampledToken> tokens) override {
    CHECK(!done);
    for (const SampledToken& token : tokens) ids.push_back(token.id);
  }
  void OnOutput(const RequestOutput& output) override {
    CHECK(!done);
    outputs.push_back(output);
  }
  void OnDone(FinishReason r, const Usage& u, absl::Status s) override {
    CHECK(!done);
    done = true;
    reason = r;
    usage = u;
    status = std::move(s);
  }
  bool done = false;
  std::vector<TokenId> ids;
  std::vector<RequestOutput> outputs;
  FinishReason reason = FinishReason::kError;
  Usage usage;
  absl::Status status;
};

}  // namespace penstock
