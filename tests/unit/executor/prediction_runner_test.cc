// Heads of tiny checkpoints, planned by hand, beside a reference that computes what feeds the head in
// the plainest way and has the head's block as an ordinary model of one layer.
#include "executor/prediction_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "executor/model_runner.h"
#include "fakes/head_checkpoint.h"

namespace penstock {
namespace {

constexpr int32_t kMaxLen = 128;
constexpr int32_t kMostGuesses = 3;

std::unique_ptr<LoadedModel> LoadFrom(const std::string& dir, LoadHeads heads, WorkerPool* pool) {
  LoadOptions load;
  load.model_dir = dir;
  load.heads = heads;
  load.pool = pool;
  auto model = LoadModel(load);
  CHECK(model.ok());
  return *std::move(model);
}

RunnerOptions SmallOptions(int32_t guesses) {
  RunnerOptions options;
  options.kv_bytes = 8 << 20;
  options.num_slots = 1;
  options.max_len = kMaxLen;
  options.max_step_tokens = 24;
  options.max_drafts = guesses;
  return options;
}

/// A slice in slot 0; `blocks`: of a sequence's first, the model's and then the head's, or of both.
StepPlan PlanOf(int32_t begin, std::vector<TokenId> tokens, int32_t guesses, OutputKind kind,
                const std::vector<BlockId>& blocks = {}, const std::vector<TokenId>& history = {},
                uint64_t sequence = 7, int32_t own = 99) {
  StepPlan plan;
  plan.step = StepId(1);
  SequenceSlice slice;
  slice.sequence = SequenceId(sequence);
  slice.slot = SlotId(0);
  slice.begin = begin;
  slice.num_tokens = static_cast<int32_t>(tokens.size()) + guesses;
  slice.num_drafts = guesses;
  slice.kind = kind;
  slice.num_outputs = kind == OutputKind::kNone ? 0 : 1 + guesses;
  plan.tokens = std::move(tokens);
  plan.tokens.insert(plan.tokens.end(), guesses, -1);
  if (!blocks.empty()) {
    SlotSetup setup;
    setup.slot = slice.slot;
    setup.sequence = slice.sequence;
    setup.sampling.temperature = 0;
    setup.history = history;
    plan.setups.push_back(setup);
    plan.block_ids = blocks;
    slice.blocks[0] = slice.blocks[1] = {0, std::min(own, static_cast<int32_t>(blocks.size()))};
    if (own < static_cast<int32_t>(blocks.size())) slice.blocks[1].begin = own;
  }
  plan.slices.push_back(slice);
  return plan;
}

/// The plan's groups are the positions' of the model and the head's; a recurrent one takes no blocks.
SliceResult StepOf(ModelRunner& runner, StepPlan plan, absl::Span<const OwnedMask> masks = {}) {
  auto& blocks = plan.slices[0].blocks;
  const auto planned = blocks;
  blocks = {};
  const std::vector<CacheGroup>& groups = runner.limits().groups;
  for (size_t g = 0; g < groups.size(); ++g) {
    if (groups[g].retention != CacheRetention::kRecurrent)
      blocks[g] = planned[groups[g].retention == CacheRetention::kDraft ? 1 : 0];
  }
  const absl::Status computed = runner.Forward(plan);
  CHECK(computed.ok());
  auto result = runner.Sample(masks);
  CHECK(result.ok());
  return result->slices.empty() ? SliceResult() : std::move(result->slices[0]);
}

const std::vector<BlockId> kAllBlocks = {6, 5, 4, 3, 2, 1, 0, 7};

class Reference {
 public:
  explicit Reference(const HeadCheckpoint& checkpoint, WorkerPool* pool)
      : checkpoint_(checkpoint), pool_(pool) {
    TempDir dir;
    checkpoint.Write(dir);
    model_ = LoadFrom(dir.path(), LoadHeads::kNone, pool);
    runner_ = *ModelRunner::Make(model_.get(), SmallOptions(0));
  }

  /// What the head guesses behind `known`. The states of `lost` positions are zero.
  std::vector<TokenId> Guesses(const std::vector<TokenId>& known, int32_t count,
                               const std::set<int32_t>& lost = {}) {
    std::vector<std::vector<float>> rows;
    for (size_t p = 0; p + 1 < known.size(); ++p) {
      std::vector<float> state = StateOf({known.begin(), known.begin() + p + 1});
      if (lost.contains(static_cast<int32_t>(p))) state.assign(state.size(), 0.0f);
      rows.push_back(Row(known[p + 1], state));
    }
    std::vector<TokenId> guesses;
    while (true) {
      const auto [guess, state] = Block(rows);
      guesses.push_back(guess);
      if (static_cast<int32_t>(guesses.size()) == count) return guesses;
      rows.push_back(Row(guess, state));
    }
  }

 private:
  /// Of the last of some tokens, after the model's final norm.
  std::vector<float> StateOf(const std::vector<TokenId>& tokens) {
    std::vector<float>& state = states_[tokens];
    if (!state.empty()) return state;
    for (size_t begin = 0; begin < tokens.size(); begin += 16) {
      const size_t end = std::min(begin + 16, tokens.size());
      const std::vector<TokenId> part(tokens.begin() + begin, tokens.begin() + end);
      const SliceResult result =
          StepOf(*runner_, PlanOf(static_cast<int32_t>(begin), part, 0,
                                  end == tokens.size() ? OutputKind::kHidden : OutputKind::kNone,
                                  begin == 0 ? kAllBlocks : std::vector<BlockId>()));
      state = result.output.hidden;
    }
    return state;
  }

  const std::vector<float>& ValuesOf(const std::string& name) const {
    return checkpoint_.tensors.at(name + ".weight").values;
  }

  std::vector<float> Normed(const std::vector<float>& x, const std::string& name) const {
    double squares = 0;
    for (const float v : x) squares += double{v} * v;
    const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) + 1e-6);
    std::vector<float> y(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      const float weight = ValuesOf(name)[i] + (checkpoint_.plus_one() ? 1.0f : 0.0f);
      y[i] = static_cast<float>(x[i] * scale) * weight;
    }
    return y;
  }

  /// What the head's block reads of a position: of the token behind it, and of its state.
  std::vector<float> Row(TokenId next, const std::vector<float>& state) const {
    const float* table = ValuesOf("model.embed_tokens").data() + size_t(next) * kHeadHidden;
    std::vector<float> both = Normed({table, table + kHeadHidden}, checkpoint_.embedding_norm());
    const std::vector<float> second = Normed(state, checkpoint_.state_norm());
    both.insert(both.end(), second.begin(), second.end());
    std::vector<float> row(kHeadHidden);
    for (int32_t i = 0; i < kHeadHidden; ++i) {
      const float* weight = ValuesOf(checkpoint_.projection()).data() + size_t(i) * both.size();
      row[i] = std::inner_product(both.begin(), both.end(), weight, 0.0f);
    }
    return row;
  }

  /// The best token behind the last row, and the state there. A model of the one layer reads the
  /// rows as embeddings of tokens 0, 1, ...
  std::pair<TokenId, std::vector<float>> Block(const std::vector<std::vector<float>>& rows) {
    CHECK(rows.size() <= size_t{kHeadVocab});
    HeadCheckpoint one = checkpoint_;
    std::map<std::string, HeadTensor> tensors;
    for (auto& [name, tensor] : checkpoint_.tensors) {
      if (name.starts_with(checkpoint_.block() + "self_attn") ||
          name.starts_with(checkpoint_.block() + "mlp") ||
          name.find("layernorm") != name.npos && name.starts_with(checkpoint_.block())) {
        tensors["model.layers.0." + name.substr(checkpoint_.block().size())] = tensor;
      }
    }
    tensors["model.norm.weight"] = checkpoint_.tensors.at(checkpoint_.norm() + ".weight");
    tensors["lm_head.weight"] = checkpoint_.tensors.at("lm_head.weight");
    HeadTensor& table = tensors["model.embed_tokens.weight"];
    table = checkpoint_.tensors.at("model.embed_tokens.weight");
    std::vector<TokenId> tokens;
    for (size_t r = 0; r < rows.size(); ++r) {
      std::copy(rows[r].begin(), rows[r].end(), table.values.begin() + r * kHeadHidden);
      tokens.push_back(static_cast<TokenId>(r));
    }
    one.tensors = std::move(tensors);
    TempDir dir;
    one.Write(dir, HeadConfig(checkpoint_.kind(), 1, /*dense=*/false));
    const auto model = LoadFrom(dir.path(), LoadHeads::kNone, pool_);
    RunnerOptions options = SmallOptions(0);
    options.max_step_tokens = kHeadVocab;
    const auto runner = *ModelRunner::Make(model.get(), options);
    const SliceResult drawn = StepOf(*runner, PlanOf(0, tokens, 0, OutputKind::kToken, kAllBlocks));
    const SliceResult state =
        StepOf(*runner, PlanOf(0, tokens, 0, OutputKind::kHidden, kAllBlocks));
    return {drawn.tokens.at(0).id, state.output.hidden};
  }

  const HeadCheckpoint& checkpoint_;
  WorkerPool* pool_;
  std::unique_ptr<LoadedModel> model_;
  std::unique_ptr<ModelRunner> runner_;
  std::map<std::vector<TokenId>, std::vector<float>> states_;
};

class PredictionRunnerTest : public ::testing::TestWithParam<HeadKind> {
 protected:
  PredictionRunnerTest() {
    TempDir dir;
    checkpoint_.Write(dir);
    model_ = LoadFrom(dir.path(), LoadHeads::kRequired, &pool_);
    runner_ = *ModelRunner::Make(model_.get(), SmallOptions(kMostGuesses));
    for (int32_t i = 0; i < 20; ++i) tokens_.push_back((i * i + 7 * i + 3) % kHeadVocab);
  }

  static OwnedMask Only(int32_t output, TokenId token) {
    OwnedMask mask;
    mask.output = output;
    mask.words.resize((kHeadVocab + 31) / 32);
    mask.words[token / 32] |= 1u << (token % 32);
    return mask;
  }

  /// Computes a prompt whose tokens are tokens_ in steps of 7, from `begin` on.
  void Prefill(int32_t begin, const std::vector<BlockId>& blocks, uint64_t sequence = 7,
               int32_t own = 99) {
    const auto end = static_cast<int32_t>(tokens_.size());
    sequence_ = sequence;
    for (int32_t at = begin; at < end; at += 7) {
      const int32_t to = std::min(at + 7, end);
      const SliceResult result = StepOf(
          *runner_, PlanOf(at, {tokens_.begin() + at, tokens_.begin() + to}, 0,
                           to == end ? OutputKind::kToken : OutputKind::kNone,
                           at == begin ? blocks : std::vector<BlockId>(), tokens_, sequence, own));
      if (to == end) {
        tokens_.resize(end);
        tokens_.push_back(result.tokens.at(0).id);
      }
    }
  }

  /// A step that guesses `count` tokens, of which the model is made to agree with the first `agreed`
  /// of the reference's. Whether the guesses are those.
  void Guess(int32_t count, int32_t agreed, const std::set<int32_t>& lost = {}) {
    const auto begin = static_cast<int32_t>(tokens_.size()) - 1;
    SCOPED_TRACE("at " + std::to_string(begin));
    std::vector<OwnedMask> masks;
    if (count > 0) {
      const std::vector<TokenId> expected = reference_.Guesses(tokens_, count, lost);
      for (int32_t i = 0; i < agreed; ++i) masks.push_back(Only(i, expected[i]));
      if (agreed < count) masks.push_back(Only(agreed, (expected[agreed] + 1) % kHeadVocab));
    }
    const SliceResult result = StepOf(
        *runner_, PlanOf(begin, {tokens_.back()}, count, OutputKind::kToken, {}, {}, sequence_),
        masks);
    EXPECT_EQ(result.num_accepted, agreed);
    for (const SampledToken& token : result.tokens) tokens_.push_back(token.id);
  }

  WorkerPool pool_{2};
  HeadCheckpoint checkpoint_{GetParam()};
  Reference reference_{checkpoint_, &pool_};
  std::unique_ptr<LoadedModel> model_;
  std::unique_ptr<ModelRunner> runner_;
  std::vector<TokenId> tokens_;
  uint64_t sequence_ = 7;
};

TEST_P(PredictionRunnerTest, GuessesWhatTheReferenceDoes) {
  ASSERT_EQ(runner_->limits().groups.back().retention, CacheRetention::kDraft);
  EXPECT_EQ(runner_->limits().max_model_drafts, kMostGuesses);
  Prefill(0, kAllBlocks);
  Guess(2, 2);
  Guess(3, 1);
  Guess(0, 0);
  Guess(0, 0);
  Guess(1, 1);
  Guess(3, 0);
  Guess(3, 3);
}

/// Its states are kept while nobody asks for a guess, and there is no room for so many.
TEST_P(PredictionRunnerTest, KeepsUpWhereNothingIsGuessed) {
  Prefill(0, kAllBlocks);
  Guess(1, 0);
  for (int i = 0; i < 21; ++i) Guess(0, 0);
  Guess(3, 2);
  Guess(3, 3);
}

/// Planned by hand they need no snapshots of a state.
class PredictionPrefixTest : public PredictionRunnerTest {};

TEST_P(PredictionPrefixTest, FindsWhatItComputedInBlocksOfAPrefix) {
  tokens_.resize(20);
  for (int32_t i = 20; i < 40; ++i) tokens_.push_back((i * 5) % kHeadVocab);
  const std::vector<TokenId> whole = tokens_;
  Prefill(0, {6, 5, 4});
  tokens_.assign(whole.begin(), whole.begin() + 36);
  Prefill(32, {6, 5, 3}, 8);
  Guess(3, 3);
  Guess(2, 1);
}

/// The one before ended with the block, so nobody knew the token behind its last position.
TEST_P(PredictionPrefixTest, TakesZerosForAStateThatIsLost) {
  const std::vector<TokenId> whole = tokens_;
  tokens_.resize(16);
  Prefill(0, {6});
  tokens_ = whole;
  Prefill(16, {6, 4, 3}, 8);
  Guess(3, 3, {15});
  Guess(2, 0, {15});
  // Blocks of which it has seen nothing: as if all had been lost.
  tokens_ = whole;
  Prefill(16, {6, 4, 3, 2, 1, 0}, 9, 3);
  std::set<int32_t> all;
  for (int32_t p = 0; p < 16; ++p) all.insert(p);
  Guess(3, 3, all);
}

TEST_P(PredictionRunnerTest, StartsAnewAfterAPreemption) {
  Prefill(0, kAllBlocks);
  Guess(2, 1);
  Prefill(0, {0, 1, 2, 3, 4});
  Guess(3, 2);
  Guess(1, 1);
}

std::string NameOfParam(const ::testing::TestParamInfo<HeadKind>& info) {
  return NameOf(info.param);
}
INSTANTIATE_TEST_SUITE_P(Layouts, PredictionRunnerTest,
                         ::testing::Values(HeadKind::kDeepSeek, HeadKind::kGlm, HeadKind::kQwen,
                                           HeadKind::kQwenDelta),
                         NameOfParam);
INSTANTIATE_TEST_SUITE_P(Layouts, PredictionPrefixTest,
                         ::testing::Values(HeadKind::kDeepSeek, HeadKind::kGlm, HeadKind::kQwen),
                         NameOfParam);

}  // namespace
}  // namespace penstock
