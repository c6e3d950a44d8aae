// Operations of mixtures of experts, recurrent layers and encoders against plain arithmetic.
#include <numeric>

#include "ops_parity.h"

namespace penstock {
namespace {

class BlocksParity : public OpsParity {};

TEST_P(BlocksParity, RoutesToTheBestExpertsOfTheBestGroups) {
  // Groups {0, 1}, {2, 3}, {4, 5}; sigmoids; the bias decides, the score weighs.
  std::vector<float> logits = {0.0f, 1.0f, 2.0f, -4.0f, 0.5f, 0.6f, 3.0f};
  const float bias[] = {0.0f, 0.0f, -0.6f, 0.0f, 0.0f, 0.4f};
  int32_t ids[3];
  float weights[3];
  RouteArgs a;
  a.logits = {logits.data(), DType::kFloat32, 1, 7, 7};
  a.rule.score = RouterScore::kSigmoid;
  a.rule.num_groups = 3;
  a.rule.top_groups = 1;
  a.rule.normalize = true;
  a.rule.scale = 2.0f;
  a.num_experts = 6;
  a.top_k = 2;
  a.score_bias = bias;
  a.shared = RouteArgs::kGated;
  a.ids = ids;
  a.weights = weights;
  ops().Route(a);
  ASSERT_TRUE(device_->Synchronize().ok());
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  EXPECT_EQ(ids[0], 5);
  EXPECT_EQ(ids[1], 4);
  EXPECT_EQ(ids[2], 6);
  const double sum = sigmoid(0.6) + sigmoid(0.5);
  EXPECT_NEAR(weights[0], 2 * sigmoid(0.6) / sum, 1e-6);
  EXPECT_NEAR(weights[1], 2 * sigmoid(0.5) / sum, 1e-6);
  EXPECT_NEAR(weights[2], sigmoid(3.0), 1e-6);
  a.rule = {};
  a.rule.score = RouterScore::kSoftmaxOfChosen;
  a.score_bias = nullptr;
  ops().Route(a);
  ASSERT_TRUE(device_->Synchronize().ok());
  EXPECT_EQ(ids[0], 2);
  EXPECT_EQ(ids[1], 1);
  EXPECT_NEAR(weights[0], sigmoid(1.0), 1e-6);
}

TEST_P(BlocksParity, AddsUpWhatTheChosenExpertsYield) {
  constexpr int64_t kRows = 9, kIn = 20, kInner = 12, kExperts = 4, kSlots = 2;
  for (const DType dtype : Activations()) {
    Matrix x = Random(kRows, kIn, dtype);
    Matrix y = Random(kRows, kIn, dtype);
    std::vector<Matrix> up, down;
    std::vector<ExpertWeights> experts(kExperts);
    for (int64_t e = 0; e < kExperts; ++e) {
      up.push_back(Random(2 * kInner, kIn, DType::kFloat32));
      down.push_back(Random(kIn, kInner, DType::kFloat32));
      const LinearPart first{.weight = up[e].data(), .rows = 2 * kInner};
      const LinearPart second{.weight = down[e].data(), .rows = kIn};
      experts[e].gate_up = *device_->Pack(kIn, {first});
      experts[e].down = *device_->Pack(kInner, {second});
    }
    std::vector<int32_t> ids;
    std::vector<float> weights;
    std::vector<double> expected;
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t s = 0; s < kSlots; ++s) {
        ids.push_back(static_cast<int32_t>((r + s * (1 + r % 3)) % kExperts));
        weights.push_back(0.25f + 0.5f * static_cast<float>(s));
      }
      for (int64_t c = 0; c < kIn; ++c) {
        double sum = y.at(r, c);
        for (int64_t s = 0; s < kSlots; ++s) {
          const int32_t e = ids[r * kSlots + s];
          for (int64_t i = 0; i < kInner; ++i) {
            double gate = 0, gain = 0;
            for (int64_t j = 0; j < kIn; ++j) {
              gate += double{x.at(r, j)} * up[e].at(i, j);
              gain += double{x.at(r, j)} * up[e].at(kInner + i, j);
            }
            sum += weights[r * kSlots + s] * gate / (1 + std::exp(-gate)) * gain * down[e].at(c, i);
          }
        }
        expected.push_back(sum);
      }
    }
    ops().Experts({.x = x.tensor(),
                   .ids = ids.data(),
                   .weights = weights.data(),
                   .num_slots = kSlots,
                   .experts = experts,
                   .activation = {},
                   .y = y.tensor()});
    ASSERT_TRUE(device_->Synchronize().ok());
    y.Read();
    ExpectClose(y, expected);
  }
}

/// Two sequences whose rows are computed at once leave the outputs and states that the same rows
/// leave one by one.
TEST_P(BlocksParity, TheDeltaRuleIsTheSameHoweverItsRowsAreCut) {
  const DeltaShape shape{2, 4, 6, 10, 3};
  const int64_t m = 7;
  const int64_t out = int64_t{shape.num_value_heads} * shape.value_dim;
  Matrix qkv = Random(m, shape.channels(), DType::kFloat32);
  Matrix ba = Random(m, 2 * shape.num_value_heads, DType::kFloat32);
  Matrix conv = Random(shape.conv_width, shape.channels(), DType::kFloat32);
  const std::vector<float> decay(shape.num_value_heads, 0.7f), dt(shape.num_value_heads, 0.1f);
  const auto run = [&](const std::vector<SequenceRows>& slices, std::vector<float>& states) {
    Matrix y = Poisoned(m, out, DType::kFloat32);
    for (const SequenceRows& slice : slices) {
      BatchRows batch;
      batch.num_rows = slice.num_rows;
      const SequenceRows local{slice.slot, 0, slice.num_rows, slice.position_begin};
      batch.sequences = absl::MakeConstSpan(&local, 1);
      DeltaArgs a;
      a.shape = shape;
      const auto rows = [&](Matrix& all) {
        Tensor t = all.tensor();
        t.data = t.row(slice.row_begin);
        t.rows = slice.num_rows;
        return t;
      };
      a.qkv = rows(qkv);
      a.ba = rows(ba);
      a.conv = conv.values.data();
      a.decay = decay.data();
      a.dt_bias = dt.data();
      a.states = states.data();
      a.state_stride = shape.state_floats();
      a.y = rows(y);
      ops().DeltaRule(a, batch);
      EXPECT_TRUE(device_->Synchronize().ok());
    }
    return y.values;
  };
  std::vector<float> whole(2 * shape.state_floats()), cut = whole;
  const std::vector<float> y = run({{1, 0, 7, 0}}, whole);
  EXPECT_EQ(run({{1, 0, 1, 0}, {1, 1, 4, 1}, {1, 5, 2, 5}}, cut), y);
  EXPECT_EQ(cut, whole);
  EXPECT_TRUE(std::all_of(whole.begin(), whole.begin() + shape.state_floats(),
                          [](float v) { return v == 0; }));
  EXPECT_TRUE(std::none_of(y.begin(), y.end(), [](float v) { return std::isnan(v); }));
}

TEST_P(BlocksParity, EncodersSeeTheirWholeSequenceAndNothingElse) {
  const HeadShape heads{4, 2, 10};
  for (const DType dtype : Activations()) {
    const std::vector<SequenceRows> sequences = {{0, 0, 19, 0}, {1, 19, 1, 0}, {2, 20, 40, 0}};
    const int64_t m = 60, dim = heads.head_dim;
    Matrix qkv = Random(m, (heads.num_heads + 2 * heads.num_kv_heads) * dim, dtype);
    Matrix y = Poisoned(m, heads.num_heads * dim, dtype);
    BatchRows batch;
    batch.num_rows = m;
    batch.sequences = sequences;
    ops().Encode({.qkv = qkv.tensor(), .heads = heads, .scale = 0.4f, .y = y.tensor()}, batch);
    ASSERT_TRUE(device_->Synchronize().ok());
    y.Read();
    std::vector<double> expected(m * heads.num_heads * dim);
    for (const SequenceRows& s : sequences) {
      for (int64_t r = s.row_begin; r < s.row_begin + s.num_rows; ++r) {
        for (int64_t h = 0; h < heads.num_heads; ++h) {
          const int64_t k = (heads.num_heads + h / 2) * dim;
          double total = 0;
          for (int64_t t = s.row_begin; t < s.row_begin + s.num_rows; ++t) {
            double score = 0;
            for (int64_t i = 0; i < dim; ++i)
              score += double{qkv.at(r, h * dim + i)} * qkv.at(t, k + i);
            const double weight = std::exp(0.4 * score);
            total += weight;
            for (int64_t i = 0; i < dim; ++i) {
              expected[(r * heads.num_heads + h) * dim + i] +=
                  weight * qkv.at(t, k + heads.num_kv_heads * dim + i);
            }
          }
          for (int64_t i = 0; i < dim; ++i) expected[(r * heads.num_heads + h) * dim + i] /= total;
        }
      }
    }
    ExpectClose(y, expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, BlocksParity, ::testing::Values("cpu"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace penstock
