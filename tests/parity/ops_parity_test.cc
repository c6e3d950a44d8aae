// Every operation of a device against plain arithmetic in double. Inputs are new in each run; the
// seed is printed.
#include "parity/ops_parity.h"

namespace penstock {
namespace {

TEST_P(OpsParity, LinearOfEverySizeFormatAndType) {
  const std::pair<WeightFormat, DType> formats[] = {{WeightFormat::kFloat32, DType::kFloat32},
                                                    {WeightFormat::kBFloat16, DType::kBFloat16},
                                                    {WeightFormat::kFloat16, DType::kFloat16}};
  for (const int64_t m : kSizes) {
    for (const int64_t n : kSizes) {
      const int64_t k = random_() % 4 == 0 ? 300 + AnySize() : AnySize();
      const auto& [format, weight_type] = formats[random_() % 3];
      const DType dtype = Inputs()[random_() % Inputs().size()];
      Matrix x = Random(m, k, dtype);
      Matrix w1 = Random(n, k, weight_type);
      Matrix w2 = Random(3, k, weight_type);
      Matrix bias = Random(1, n, DType::kBFloat16);
      const bool accumulate = random_() % 2 == 0;
      const LinearPart parts[] = {{.weight = w1.data(),
                                   .bias = bias.data(),
                                   .bias_dtype = DType::kBFloat16,
                                   .rows = n,
                                   .format = format},
                                  {.weight = w2.data(), .rows = 3, .format = format}};
      const auto packed = device_->Pack(k, parts);
      ASSERT_TRUE(packed.ok());
      Matrix y = accumulate ? Random(m, n + 3, dtype) : Poisoned(m, n + 3, dtype);
      std::vector<double> expected(m * (n + 3));
      for (int64_t r = 0; r < m; ++r) {
        for (int64_t c = 0; c < n + 3; ++c) {
          double sum = accumulate ? y.at(r, c) : 0;
          if (c < n) sum += bias.at(0, c);
          for (int64_t i = 0; i < k; ++i)
            sum += double{x.at(r, i)} * (c < n ? w1.at(c, i) : w2.at(c - n, i));
          expected[r * (n + 3) + c] = sum;
        }
      }
      const Tensor out = OnDevice(y);
      ops().Linear({.x = OnDevice(x), .w = &*packed, .y = out, .accumulate = accumulate});
      Read(out, y);
      ExpectClose(y, expected);
      buffers_.clear();
    }
  }
}

TEST_P(OpsParity, LinearScalesAndCapsItsSum) {
  Matrix x = Random(5, 40, Inputs()[0]);
  Matrix w = Random(70, 40, DType::kBFloat16);
  const LinearPart part[] = {{.weight = w.data(), .rows = 70, .format = WeightFormat::kBFloat16}};
  const auto packed = device_->Pack(40, part);
  Matrix y = Poisoned(5, 70, DType::kFloat32);
  const Tensor out = OnDevice(y);
  ops().Linear({.x = OnDevice(x), .w = &*packed, .y = out, .scale = 0.5f, .soft_cap = 3.0f});
  Read(out, y);
  std::vector<double> expected;
  for (int64_t r = 0; r < 5; ++r) {
    for (int64_t c = 0; c < 70; ++c) {
      double sum = 0;
      for (int64_t i = 0; i < 40; ++i) sum += double{x.at(r, i)} * w.at(c, i);
      expected.push_back(3 * std::tanh(0.5 * sum / 3));
    }
  }
  ExpectClose(y, expected);
}

TEST_P(OpsParity, LinearAcceptsNoRows) {
  Matrix x = Random(0, 40, Inputs()[0]);
  Matrix w = Random(7, 40, DType::kFloat32);
  const LinearPart part[] = {{.weight = w.data(), .rows = 7}};
  const auto packed = device_->Pack(40, part);
  Matrix y = Poisoned(0, 7, DType::kFloat32);
  ops().Linear({.x = x.tensor(), .w = &*packed, .y = y.tensor()});
  EXPECT_TRUE(device_->Synchronize().ok());
}

TEST_P(OpsParity, Norms) {
  for (const DType dtype : Activations()) {
    for (const int64_t n : kSizes) {
      for (const bool center : {false, true}) {
        const int64_t m = AnySize();
        Matrix x = Random(m, n, dtype);
        Matrix w = Random(1, n, DType::kFloat32);
        Matrix b = Random(1, n, DType::kFloat32);
        Matrix y = Random(m, n, dtype);
        std::vector<double> expected(m * n);
        for (int64_t r = 0; r < m; ++r) {
          double mean = 0;
          for (int64_t i = 0; center && i < n; ++i) mean += double{x.at(r, i)} / n;
          double squares = 0;
          for (int64_t i = 0; i < n; ++i) squares += std::pow(x.at(r, i) - mean, 2);
          for (int64_t i = 0; i < n; ++i) {
            const double unit = (x.at(r, i) - mean) / std::sqrt(squares / n + 1e-3);
            const double normed = unit * w.at(0, i) + (center ? b.at(0, i) : 0.0f);
            expected[r * n + i] = center ? 0.5 * (y.at(r, i) + normed) : normed;
          }
        }
        const Tensor out = OnDevice(y);
        ops().Norm({.x = OnDevice(x),
                    .weight = OnDevice(w.values),
                    .eps = 1e-3f,
                    .y = out,
                    .bias = center ? OnDevice(b.values) : nullptr,
                    .center = center,
                    .accumulate = center,
                    .scale = center ? 0.5f : 1.0f});
        Read(out, y);
        ExpectClose(y, expected);
        buffers_.clear();
      }
    }
  }
}

TEST_P(OpsParity, Activations) {
  const auto f = [](Activation activation, double x) {
    switch (activation) {
      case Activation::kSilu:
        return x / (1 + std::exp(-x));
      case Activation::kGelu:
        return 0.5 * x * (1 + std::erf(x / std::sqrt(2)));
      case Activation::kGeluTanh:
        return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
      case Activation::kRelu:
        return std::max(x, 0.0);
      case Activation::kSigmoid:
        return 1 / (1 + std::exp(-x));
      case Activation::kSoftCap:
        return 0.5 * std::tanh(x / 0.5);
      case Activation::kClampedSwiglu:
        return std::min(x, 0.5) / (1 + std::exp(-1.7 * std::min(x, 0.5)));
    }
    return 0.0;
  };
  for (const DType dtype : Activations()) {
    for (const int64_t n : kSizes) {
      for (const Activation activation :
           {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kRelu,
            Activation::kSigmoid, Activation::kSoftCap, Activation::kClampedSwiglu}) {
        const bool clamped = activation == Activation::kClampedSwiglu;
        const bool gated = clamped || random_() % 2 == 0;
        const int64_t m = 1 + random_() % 20;
        Matrix x = Random(m, 2 * n, dtype);
        Matrix y = Poisoned(m, n, dtype);
        const auto half = static_cast<int64_t>(DTypeSize(dtype)) * n;
        const Tensor out = OnDevice(y);
        ActivationArgs args{.f = activation, .gate = OnDevice(x), .y = out, .limit = 0.5f};
        args.alpha = 1.7f;
        args.gate.cols = n;
        if (gated) {
          args.up = args.gate;
          args.up.data = args.gate.row(0) + half;
        }
        ops().Activate(args);
        Read(out, y);
        buffers_.clear();
        std::vector<double> expected;
        for (int64_t r = 0; r < m; ++r) {
          for (int64_t i = 0; i < n; ++i) {
            const double up = gated ? x.at(r, n + i) : 1.0;
            expected.push_back(f(activation, x.at(r, i)) *
                               (clamped ? std::clamp(up, -0.5, 0.5) + 1 : up));
          }
        }
        ExpectClose(y, expected);
      }
    }
  }
}

TEST_P(OpsParity, EmbedAndGatherRows) {
  for (const DType table_type : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    for (const DType dtype : Activations()) {
      const int64_t n = AnySize();
      const int64_t m = AnySize();
      Matrix table = Random(50, n, table_type);
      std::vector<int32_t> ids(m);
      for (int32_t& id : ids) id = random_() % 50;
      Matrix y = Poisoned(m, n, dtype);
      const Tensor out = OnDevice(y);
      ops().Embed({OnDevice(table), ids.data(), out, 2.5f});
      Read(out, y);
      std::vector<double> expected;
      for (const int32_t id : ids) {
        for (int64_t i = 0; i < n; ++i) expected.push_back(2.5 * table.at(id, i));
      }
      ExpectClose(y, expected);
      const std::vector<int32_t> rows = {static_cast<int32_t>(m - 1), 0};
      Matrix picked = Poisoned(2, n, dtype);
      const Tensor gathered = OnDevice(picked);
      ops().GatherRows(out, rows, gathered);
      Read(gathered, picked);
      for (int64_t i = 0; i < n; ++i) {
        EXPECT_EQ(picked.at(0, i), y.at(m - 1, i));
        EXPECT_EQ(picked.at(1, i), y.at(0, i));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, OpsParity, ::testing::Values("cpu", "cuda-emulated", "cuda"),
                         NameOfDevice);

}  // namespace
}  // namespace penstock
