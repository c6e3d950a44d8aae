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

TEST_P(BlocksParity, SumsWhatARowsSlotsYield) {
  constexpr int64_t kRows = 7, kCols = 21, kSlots = 3;
  for (const DType dtype : Activations()) {
    Matrix x = Random(kRows * kSlots, kCols, DType::kFloat32);
    Matrix y = Random(kRows, kCols, dtype);
    std::vector<float> weights;
    std::vector<double> expected;
    for (int64_t i = 0; i < kRows * kSlots; ++i)
      weights.push_back(0.1f + 0.2f * static_cast<float>(i % 4));
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t c = 0; c < kCols; ++c) {
        double sum = y.at(r, c);
        for (int64_t v = r * kSlots; v < (r + 1) * kSlots; ++v)
          sum += double{weights[v]} * x.at(v, c);
        expected.push_back(sum);
      }
    }
    ops().SumExperts({x.tensor(), weights.data(), kSlots, y.tensor()});
    ASSERT_TRUE(device_->Synchronize().ok());
    y.Read();
    ExpectClose(y, expected);
  }
}

/// What the operation says, in float64: a sequence's rows one after the other.
std::vector<double> DeltaOf(const DeltaShape& d, const Matrix& qkv, const Matrix& ba,
                            const Matrix& conv, const std::vector<float>& decay,
                            const std::vector<float>& dt,
                            const std::vector<SequenceRows>& sequences) {
  const int64_t channels = d.channels(), keys = int64_t{d.num_key_heads} * d.key_dim;
  const int64_t width = int64_t{d.num_value_heads} * d.value_dim;
  std::vector<double> y(qkv.rows * width);
  for (const SequenceRows& s : sequences) {
    std::vector<double> state(int64_t{d.num_value_heads} * d.key_dim * d.value_dim);
    for (int64_t r = 0; r < s.num_rows; ++r) {
      std::vector<double> x(channels);
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t t = 0; t < d.conv_width; ++t) {
          const int64_t from = r - (d.conv_width - 1) + t;
          if (from >= 0) x[c] += double{qkv.at(s.row_begin + from, c)} * conv.at(t, c);
        }
        x[c] /= 1 + std::exp(-x[c]);
      }
      for (int64_t h = 0; h < 2 * d.num_key_heads; ++h) {
        double* head = &x[h * d.key_dim];
        const double squares = std::inner_product(head, head + d.key_dim, head, 0.0);
        const double by =
            std::sqrt(squares + 1e-6) * (h < d.num_key_heads ? std::sqrt(double(d.key_dim)) : 1.0);
        for (int64_t i = 0; i < d.key_dim; ++i) head[i] /= by;
      }
      for (int64_t h = 0; h < d.num_value_heads; ++h) {
        const int64_t key_head = h / (d.num_value_heads / d.num_key_heads);
        const double* q = &x[key_head * d.key_dim];
        const double* k = q + keys;
        const double* v = &x[2 * keys + h * d.value_dim];
        const double beta = 1 / (1 + std::exp(-double{ba.at(s.row_begin + r, h)}));
        const double in = double{ba.at(s.row_begin + r, d.num_value_heads + h)} + dt[h];
        const double keep = std::exp(-decay[h] * std::log1p(std::exp(in)));
        for (int64_t c = 0; c < d.value_dim; ++c) {
          double* cell = &state[h * d.key_dim * d.value_dim + c];
          double recalled = 0;
          for (int64_t i = 0; i < d.key_dim; ++i)
            recalled += k[i] * (cell[i * d.value_dim] *= keep);
          for (int64_t i = 0; i < d.key_dim; ++i) {
            cell[i * d.value_dim] += k[i] * beta * (v[c] - recalled);
            y[(s.row_begin + r) * width + h * d.value_dim + c] += q[i] * cell[i * d.value_dim];
          }
        }
      }
    }
  }
  return y;
}

class DeviceBlocksParity : public OpsParity {
 protected:
  /// y of the slices, each an operation of its own where `apart`, else one batch.
  Matrix RunDelta(const DeltaShape& shape, DType dtype, const std::vector<SequenceRows>& slices,
                  bool apart, std::vector<float>& states) {
    Matrix y = Poisoned(qkv_.rows, int64_t{shape.num_value_heads} * shape.value_dim, dtype);
    DeltaArgs a;
    a.shape = shape;
    const Tensor qkv = OnDevice(qkv_), ba = OnDevice(ba_), out = OnDevice(y);
    a.conv = OnDevice(conv_.values);
    a.decay = OnDevice(decay_);
    a.dt_bias = OnDevice(dt_);
    a.states = const_cast<float*>(OnDevice(states));
    a.state_stride = shape.state_floats();
    const auto rows = [](Tensor t, int64_t begin, int64_t count) {
      t.data = t.row(begin);
      t.rows = count;
      return t;
    };
    for (size_t i = 0; i < slices.size(); i += apart ? 1 : slices.size()) {
      std::vector<SequenceRows> step(slices.begin() + i,
                                     apart ? slices.begin() + i + 1 : slices.end());
      const int32_t begin = step[0].row_begin;
      BatchRows batch;
      for (SequenceRows& s : step) {
        s.row_begin -= begin;
        batch.num_rows += s.num_rows;
      }
      batch.sequences = step;
      a.qkv = rows(qkv, begin, batch.num_rows);
      a.ba = rows(ba, begin, batch.num_rows);
      a.y = rows(out, begin, batch.num_rows);
      ops().DeltaRule(a, batch);
    }
    Read(out, y);
    if (!device_->shares_host_memory())
      device_->CopyToHost(states.data(), a.states, states.size() * sizeof(float));
    return y;
  }

  Matrix qkv_, ba_, conv_;
  std::vector<float> decay_, dt_;
};

/// Also with rows cut into steps: then outputs and states have the same bits.
TEST_P(DeviceBlocksParity, TheDeltaRuleIsThatOfItsRowsOneByOne) {
  for (const DeltaShape& shape :
       {DeltaShape{2, 4, 12, 20, 3}, DeltaShape{1, 1, 132, 36, 4}, DeltaShape{1, 2, 8, 6, 1}}) {
    for (const DType dtype : Activations()) {
      const int64_t m = 12;
      qkv_ = Random(m, shape.channels(), dtype);
      ba_ = Random(m, 2 * shape.num_value_heads, DType::kFloat32);
      conv_ = Random(shape.conv_width, shape.channels(), DType::kFloat32);
      decay_.assign(shape.num_value_heads, 0.7f);
      dt_.assign(shape.num_value_heads, 0.1f);
      const std::vector<SequenceRows> whole = {{1, 0, 7, 0}, {2, 7, 1, 0}, {0, 8, 4, 0}};
      const std::vector<SequenceRows> pieces = {{1, 0, 1, 0}, {1, 1, 4, 1}, {1, 5, 2, 5},
                                                {2, 7, 1, 0}, {0, 8, 2, 0}, {0, 10, 2, 2}};
      std::vector<float> states(4 * shape.state_floats()), cut = states;
      const Matrix y = RunDelta(shape, dtype, whole, false, states);
      ExpectClose(y, DeltaOf(shape, qkv_, ba_, conv_, decay_, dt_, whole));
      EXPECT_EQ(RunDelta(shape, dtype, pieces, true, cut).values, y.values);
      EXPECT_EQ(cut, states);
      EXPECT_TRUE(std::all_of(states.end() - shape.state_floats(), states.end(),
                              [](float v) { return v == 0; }));
    }
  }
}

TEST_P(DeviceBlocksParity, EncodersSeeTheirWholeSequenceAndNothingElse) {
  const HeadShape heads{4, 2, 12};
  for (const DType dtype : Inputs()) {
    const std::vector<SequenceRows> sequences = {{0, 0, 19, 0}, {1, 19, 1, 0}, {2, 20, 40, 0}};
    const int64_t m = 60, dim = heads.head_dim;
    Matrix qkv = Random(m, (heads.num_heads + 2 * heads.num_kv_heads) * dim, dtype);
    Matrix y = Poisoned(m, heads.num_heads * dim, dtype);
    BatchRows batch;
    batch.num_rows = m;
    batch.sequences = sequences;
    const Tensor out = OnDevice(y);
    ops().Encode({.qkv = OnDevice(qkv), .heads = heads, .scale = 0.4f, .y = out}, batch);
    Read(out, y);
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

INSTANTIATE_TEST_SUITE_P(Devices, DeviceBlocksParity,
                         ::testing::Values("cpu", "cuda-emulated", "cuda"), NameOfDevice);

}  // namespace
}  // namespace penstock
