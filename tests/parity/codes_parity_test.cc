// Linear layers and tables of codes against plain arithmetic in double, in every form, alone and
// side by side in one layer. Inputs are new in each run; the seed is printed.
#include <cmath>
#include <cstring>
#include <numeric>

#include "fakes/codes_in_memory.h"
#include "parity/ops_parity.h"

namespace penstock {
namespace {

class CodesParity : public OpsParity {
 protected:
  std::unique_ptr<CodesInMemory> RandomCodes(int64_t rows, int64_t k) {
    QuantizedForm form;
    form.bits = random_() % 2 == 0 ? 4 : 8;
    const int64_t groups[] = {16, 32, 64, 128, k};
    form.group = groups[random_() % 5];
    form.has_offset = random_() % 2 == 0;
    if (random_() % 2 == 0) {
      form.book.resize(size_t{1} << form.bits);
      for (float& v : form.book) v = Normal();
    } else {
      form.center = static_cast<int32_t>(random_() % 9);
    }
    if (random_() % 3 == 0) {
      form.column_order.resize(k);
      std::iota(form.column_order.begin(), form.column_order.end(), 0);
      std::shuffle(form.column_order.begin(), form.column_order.end(), random_);
    }
    const int64_t num_groups = (k + form.group - 1) / form.group;
    std::vector<uint8_t> codes(rows * k);
    for (uint8_t& code : codes) code = static_cast<uint8_t>(random_() & ((1u << form.bits) - 1));
    const uint32_t kind = random_() % 4;
    return std::make_unique<CodesInMemory>(
        rows, k, form, std::move(codes), RandomScales(rows * num_groups, kind),
        form.has_offset ? RandomScales(rows * num_groups, (kind + 1) % 4) : std::vector<float>());
  }

  /// Scales that fit e8m0, bfloat16, float16, or float32 alone.
  std::vector<float> RandomScales(int64_t size, uint32_t kind) {
    std::vector<float> scales(size);
    for (float& s : scales) {
      s = kind == 0   ? std::ldexp(1.0f, static_cast<int>(random_() % 5) - 2)
          : kind == 1 ? Bf16ToFloat(FloatToBf16(Normal()))
          : kind == 2 ? Fp16ToFloat(FloatToFp16(Normal()))
                      : Normal();
    }
    return scales;
  }

  static std::vector<float> Values(const QuantizedRows& matrix) {
    std::vector<float> values(matrix.rows() * matrix.k());
    Dequantize(matrix, 0, matrix.rows(), values.data());
    return values;
  }
};

TEST_P(CodesParity, LinearOfCodesBesideNumbers) {
  for (int trial = 0; trial < 60; ++trial) {
    const int64_t m = AnySize();
    const int64_t k = random_() % 3 == 0 ? 300 + AnySize() : AnySize();
    const DType dtype = Activations()[random_() % 2];
    Matrix x = Random(m, k, dtype);
    const auto first = RandomCodes(AnySize(), k);
    Matrix plain = Random(AnySize(), k, DType::kBFloat16);
    const auto second = RandomCodes(AnySize(), k);
    Matrix bias = Random(1, first->rows(), DType::kFloat32);
    std::vector<int32_t> order(second->rows());  // rows backwards, then the first again
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(order.size() - 1 - i);
    order.push_back(0);
    const auto num_picked = static_cast<int64_t>(order.size());
    const LinearPart parts[] = {
        {.bias = bias.data(), .rows = first->rows(), .codes = first.get()},
        {.rows = first->rows(), .codes = first.get()},
        {.weight = plain.data(), .rows = plain.rows, .format = WeightFormat::kBFloat16},
        {.rows = num_picked, .order = order, .codes = second.get()}};
    const auto packed = device_->Pack(k, parts);
    ASSERT_TRUE(packed.ok()) << packed.status();
    EXPECT_EQ(packed->segments.size(), 3);  // alike neighbours share one
    std::vector<float> rows = Values(*first);
    const std::vector<float> again = rows;
    rows.insert(rows.end(), again.begin(), again.end());
    rows.insert(rows.end(), plain.values.begin(), plain.values.end());
    const std::vector<float> values = Values(*second);
    for (const int32_t r : order) {
      rows.insert(rows.end(), values.begin() + r * k, values.begin() + (r + 1) * k);
    }
    const int64_t n = packed->n;
    ASSERT_EQ(n * k, rows.size());
    std::vector<double> expected(m * n);
    for (int64_t i = 0; i < m * n; ++i) {
      const int64_t c = i % n;
      expected[i] = c < first->rows() ? bias.at(0, c) : 0;
      for (int64_t j = 0; j < k; ++j) expected[i] += double{x.at(i / n, j)} * rows[c * k + j];
    }
    Matrix y = Poisoned(m, n, dtype);
    ops().Linear({.x = x.tensor(), .w = &*packed, .y = y.tensor()});
    ASSERT_TRUE(device_->Synchronize().ok());
    y.Read();
    ExpectClose(y, expected);
  }
}

TEST_P(CodesParity, ARowsSumIsTheSameInEveryBatch) {
  const auto codes = RandomCodes(100, 700);
  const LinearPart parts[] = {{.rows = 100, .codes = codes.get()}};
  const auto packed = device_->Pack(700, parts);
  ASSERT_TRUE(packed.ok());
  Matrix x = Random(129, 700, DType::kFloat32);
  Matrix all = Poisoned(129, 100, DType::kFloat32);
  ops().Linear({.x = x.tensor(), .w = &*packed, .y = all.tensor()});
  for (int64_t r = 0; r < 129; ++r) {
    Matrix one = Poisoned(1, 100, DType::kFloat32);
    Tensor row = x.tensor();
    row.data = x.tensor().row(r);
    row.rows = 1;
    ops().Linear({.x = row, .w = &*packed, .y = one.tensor()});
    EXPECT_EQ(std::memcmp(one.values.data(), all.values.data() + r * 100, 400), 0) << r;
  }
}

/// x as a layer with groups of `group` rounds it, in the order of its columns.
std::vector<double> RoundedInput(const Matrix& x, const QuantizedForm& form) {
  std::vector<double> out(x.rows * x.cols);
  for (int64_t r = 0; r < x.rows; ++r) {
    const auto at = [&](int64_t c) {
      return static_cast<float>(x.at(r, form.column_order.empty() ? c : form.column_order[c]));
    };
    for (int64_t begin = 0; begin < x.cols; begin += form.group) {
      const int64_t end = std::min(x.cols, begin + form.group);
      float most = 0;
      for (int64_t c = begin; c < end; ++c) most = std::max(most, std::fabs(at(c)));
      for (int64_t c = begin; c < end; ++c) {
        out[r * x.cols + (form.column_order.empty() ? c : form.column_order[c])] =
            most == 0 ? 0.0 : double{std::nearbyint(at(c) * (127.0f / most))} * (most / 127.0f);
      }
    }
  }
  return out;
}

TEST_P(CodesParity, IntegerInputsBesideOthers) {
  for (int trial = 0; trial < 60; ++trial) {
    const int64_t m = AnySize();
    const int64_t k = random_() % 3 == 0 ? 300 + AnySize() : AnySize();
    Matrix x = Random(m, k, Activations()[random_() % 2]);
    std::unique_ptr<CodesInMemory> codes;
    do {
      codes = RandomCodes(AnySize(), k);
    } while (!TakesIntegerInput(codes->form(), k));
    const auto other = RandomCodes(AnySize(), k);
    const LinearPart parts[] = {
        {.rows = codes->rows(), .codes = codes.get(), .integer_input = true},
        {.rows = other->rows(), .codes = other.get()},
        {.rows = codes->rows(), .codes = codes.get()},
        {.rows = codes->rows(), .codes = codes.get(), .integer_input = true}};
    const auto packed = device_->Pack(k, parts);
    ASSERT_TRUE(packed.ok()) << packed.status();
    const std::vector<float> rows = Values(*codes);
    const std::vector<float> between = Values(*other);
    const std::vector<double> rounded = RoundedInput(x, codes->form());
    const int64_t n = packed->n;
    std::vector<double> expected(m * n);
    for (int64_t i = 0; i < m * n; ++i) {
      int64_t c = i % n;
      const double* in = nullptr;
      const float* w = nullptr;
      if (c < codes->rows()) {
        in = &rounded[i / n * k];
        w = &rows[c * k];
      } else if ((c -= codes->rows()) < other->rows()) {
        w = &between[c * k];
      } else {
        c -= other->rows();
        if (c >= codes->rows()) in = &rounded[i / n * k];
        w = &rows[c % codes->rows() * k];
      }
      for (int64_t j = 0; j < k; ++j) {
        expected[i] += (in == nullptr ? double{x.at(i / n, j)} : in[j]) * w[j];
      }
    }
    Matrix y = Poisoned(m, n, DType::kFloat32);
    ops().Linear({.x = x.tensor(), .w = &*packed, .y = y.tensor()});
    ASSERT_TRUE(device_->Synchronize().ok());
    y.Read();
    ExpectClose(y, expected);
  }
}

TEST_P(CodesParity, ARowOfIntegersIsTheSameInEveryBatch) {
  QuantizedForm form;
  form.center = 8;
  form.group = 128;
  std::vector<uint8_t> codes(100 * 700);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(random_() % 16);
  const CodesInMemory matrix(100, 700, form, codes, RandomScales(100 * 6, 3), {});
  const LinearPart parts[] = {{.rows = 100, .codes = &matrix, .integer_input = true}};
  const auto packed = device_->Pack(700, parts);
  ASSERT_TRUE(packed.ok());
  Matrix x = Random(129, 700, DType::kFloat32);
  Matrix all = Poisoned(129, 100, DType::kFloat32);
  ops().Linear({.x = x.tensor(), .w = &*packed, .y = all.tensor()});
  for (int64_t r = 0; r < 129; ++r) {
    Matrix one = Poisoned(1, 100, DType::kFloat32);
    Tensor row = x.tensor();
    row.data = x.tensor().row(r);
    row.rows = 1;
    ops().Linear({.x = row, .w = &*packed, .y = one.tensor()});
    EXPECT_EQ(std::memcmp(one.values.data(), all.values.data() + r * 100, 400), 0) << r;
  }
}

TEST_P(CodesParity, AnInputThatIsNoNumberYieldsNone) {
  const QuantizedForm form{.group = 32, .center = 8};
  const CodesInMemory matrix(5, 64, form, std::vector<uint8_t>(5 * 64, 9), RandomScales(10, 3), {});
  const LinearPart parts[] = {{.rows = 5, .codes = &matrix, .integer_input = true}};
  const auto packed = device_->Pack(64, parts);
  ASSERT_TRUE(packed.ok());
  for (const float bad : {NAN, INFINITY}) {
    Matrix x = Random(2, 64, DType::kFloat32);
    x.values[40] = bad;
    Matrix y = Poisoned(2, 5, DType::kFloat32);
    ops().Linear({.x = x.tensor(), .w = &*packed, .y = y.tensor()});
    for (int c = 0; c < 5; ++c) {
      EXPECT_TRUE(std::isnan(y.values[c])) << c;
      EXPECT_TRUE(std::isfinite(y.values[5 + c])) << c;
    }
  }
}

TEST_P(CodesParity, EmbedFromATableOfCodes) {
  for (int trial = 0; trial < 20; ++trial) {
    const int64_t k = AnySize();
    const auto low = RandomCodes(70, k);
    const auto high = RandomCodes(50, k);
    const LinearPart parts[] = {{.rows = 70, .codes = low.get()},
                                {.rows = 50, .codes = high.get()}};
    const auto packed = device_->Pack(k, parts);
    ASSERT_TRUE(packed.ok());
    std::vector<float> rows = Values(*low);
    const std::vector<float> more = Values(*high);
    rows.insert(rows.end(), more.begin(), more.end());
    std::vector<int32_t> ids(33);
    for (int32_t& id : ids) id = static_cast<int32_t>(random_() % 120);
    Matrix y = Poisoned(33, k, DType::kFloat32);
    ops().Embed({.ids = ids.data(), .y = y.tensor(), .packed = &*packed});
    ASSERT_TRUE(device_->Synchronize().ok());
    for (size_t r = 0; r < ids.size(); ++r) {
      for (int64_t c = 0; c < k; ++c) EXPECT_EQ(y.at(r, c), rows[ids[r] * k + c]);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, CodesParity, ::testing::Values("cpu"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace penstock
