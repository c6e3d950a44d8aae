// The row kernels (embedding, norms, gated activations) on a GPU or under the emulator: equal to the
// CPU backend's kernels, or to the order of sums that rows.h states; norms also close to a reference
// in double.
#include <algorithm>
#include <cstdio>

#include "backend/cpu/kernels.h"
#include "parity/kernel_rows.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

class RowsTest : public KernelRows {};

TEST_F(RowsTest, EmbedIsTheCpus) {
  for (const Element from : kNumberElements) {
    for (const Element to : kNumberElements) {
      for (const int32_t width : kRowWidths) {
        const int32_t rows = 1 + Below(20);
        const bool accumulate = Below(2) == 0;
        const float scale = Below(2) == 0 ? 1.0f : 2.53f;
        const int32_t stride = width + 8 * Below(2);
        const std::vector<float> table = Random(size_t{31} * stride, from);
        const std::vector<float> before = Random(size_t(rows) * width, to);
        const bool in_order = Below(4) == 0;
        std::vector<int32_t> ids(rows);
        for (int32_t r = 0; r < rows; ++r) ids[r] = in_order ? r : Below(31);
        DeviceRows dt(from, table), dy(to, before);
        DeviceArray<int32_t> di(ids);
        EmbedArgs a{dt.data(), stride, in_order ? nullptr : di.data(), dy.data(), width,
                    rows,      width};
        a.scale = scale;
        a.accumulate = accumulate;
        a.table_element = from;
        a.element = to;
        ASSERT_EQ(LaunchEmbed(a, nullptr), cudaSuccess);
        const std::vector<float> y = dy.Values();
        const std::vector<uint8_t> raw = Encoded(from, table);
        const DType type = from == Element::kFloat32    ? DType::kFloat32
                           : from == Element::kBFloat16 ? DType::kBFloat16
                                                        : DType::kFloat16;
        for (int32_t r = 0; r < rows; ++r) {
          std::vector<float> expected(before.begin() + r * width, before.begin() + (r + 1) * width);
          std::vector<uint8_t> cpu = Encoded(to, expected);
          const uint8_t* row = raw.data() + ids[r] * stride * BytesOf(from);
          if (to == Element::kFloat16) {  // which the CPU's activations are not
            for (int32_t i = 0; i < width; ++i) {
              float v = table[ids[r] * stride + i];
              if (scale != 1.0f) v = v * scale;
              if (accumulate) v = v + expected[i];
              expected[i] = RoundedTo(to, v);
            }
          } else {
            Avx2Kernels().convert_row(type, row, to == Element::kBFloat16, cpu.data(), width, scale,
                                      accumulate);
            expected = Decoded(to, cpu);
          }
          for (int32_t i = 0; i < width; ++i) ASSERT_EQ(y[r * width + i], expected[i]) << width;
        }
      }
    }
  }
}

/// 256 strided fma lanes and a binary tree; squares, or plain sums.
float TreeSum(const float* x, float center, int32_t n, bool squares) {
  float lanes[256] = {};
  for (int32_t i = 0; i < n; ++i) {
    float& lane = lanes[i % 256];
    const float v = x[i] - center;
    lane = squares ? std::fma(v, v, lane) : lane + v;
  }
  for (int half = 128; half > 0; half /= 2) {
    for (int t = 0; t < half; ++t) lanes[t] += lanes[t + half];
  }
  return lanes[0];
}

struct NormCase {
  Element element;
  int32_t width;
  bool sums, residual, center, bytes, accumulate;
  friend std::ostream& operator<<(std::ostream& os, const NormCase& c) {
    return os << "element " << int(c.element) << " width " << c.width << " sums " << c.sums
              << " residual " << c.residual << " center " << c.center << " bytes " << c.bytes
              << " accumulate " << c.accumulate;
  }
};

class NormTest : public RowsTest {
 protected:
  void Run(const NormCase& c) {
    SCOPED_TRACE(testing::PrintToString(c));
    const int32_t rows = 1 + Below(6);
    const int32_t width = c.width;
    const size_t size = size_t(rows) * width;
    const std::vector<float> x = Random(size, c.element);
    const Sums sums = RandomSums(rows, width);
    const std::vector<float> before = Random(size, c.element);
    const std::vector<float> weight = Random(width);
    const std::vector<float> bias = Random(width);
    const std::vector<float> old = Random(size, c.element);
    DeviceRows dx(c.element, x), dr(c.element, before), dy(c.element, old);
    DeviceSums ds(sums);
    DeviceArray<float> dw(weight), db(bias), scales(rows);
    DeviceArray<int8_t> q(size);

    NormArgs a;
    a.x = c.sums ? ds.Input(width) : RowInput{dx.data(), width};
    if (c.residual) {
      a.residual = dr.data();
      a.residual_stride = width;
    }
    a.weight = dw.data();
    a.bias = c.center ? db.data() : nullptr;
    a.y = c.bytes ? RowOutput{q.data(), width, scales.data()} : RowOutput{dy.data(), width};
    a.eps = 1e-5f;
    a.scale = c.accumulate ? 0.5f : 1.0f;
    a.center = c.center;
    a.accumulate = c.accumulate;
    a.rows = rows;
    a.width = width;
    a.element = c.element;
    ASSERT_EQ(LaunchNorm(a, nullptr), cudaSuccess);

    std::vector<float> h(size), expected(size), exact(size);
    for (size_t i = 0; i < size; ++i) {
      float v = c.sums ? sums.values[i] : x[i];
      if (c.residual) v += before[i];
      h[i] = RoundedTo(c.element, v);
    }
    for (int32_t r = 0; r < rows; ++r) {
      const float* row = h.data() + r * width;
      const float n = static_cast<float>(width);
      const float center = c.center ? TreeSum(row, 0, width, false) / n : 0.0f;
      const float inverse = 1.0f / std::sqrt(TreeSum(row, center, width, true) / n + 1e-5f);
      double mean = 0, squares = 0;
      for (int32_t i = 0; c.center && i < width; ++i) mean += double{row[i]} / width;
      for (int32_t i = 0; i < width; ++i) squares += (row[i] - mean) * (row[i] - mean);
      for (int32_t i = 0; i < width; ++i) {
        const size_t at = r * width + i;
        float v = (row[i] - center) * inverse * weight[i];
        double e = (row[i] - mean) / std::sqrt(squares / width + 1e-5) * weight[i];
        if (c.center) {
          v += bias[i];
          e += bias[i];
        }
        if (c.accumulate) {
          v = (old[at] + RoundedTo(c.element, v)) * 0.5f;
          e = (old[at] + e) * 0.5;
        }
        expected[at] = RoundedTo(c.element, v);
        exact[at] = static_cast<float>(e);
      }
    }
    if (c.residual) {
      const std::vector<float> kept = dr.Values();
      for (size_t i = 0; i < size; ++i) ASSERT_EQ(kept[i], h[i]);
    }
    double error = 0, norm = 0;
    for (size_t i = 0; i < size; ++i) {
      error += std::pow(expected[i] - exact[i], 2);
      norm += std::pow(exact[i], 2);
    }
    // Centering leaves little of a row of one or few elements, and of that the error is large.
    if (!c.center || width > 16) {
      ASSERT_LE(std::sqrt(error), ToleranceOf(c.element) * std::sqrt(norm));
    }
    if (!c.bytes) {
      const std::vector<float> y = dy.Values();
      for (size_t i = 0; i < size; ++i) ASSERT_EQ(y[i], expected[i]) << "element " << i;
      return;
    }
    const PlainBytes plain = RoundRows(expected, rows, width);
    EXPECT_EQ(q.Read(), plain.q);
    EXPECT_EQ(scales.Read(), plain.scales);
  }
};

TEST_F(NormTest, EqualsItsRecipe) {
  for (const Element element : kNumberElements) {
    for (const int32_t width : kRowWidths) {
      for (int which = 0; which < 3; ++which) {
        const bool bytes = Below(2) == 0;
        Run({element, width, Below(2) == 0, Below(2) == 0, Below(2) == 0, bytes,
             !bytes && Below(2) == 0});
      }
    }
  }
}

TEST_F(NormTest, OfSumsAndResidualToBytes) {
  for (const int32_t width : kRowWidths) {
    Run({Element::kBFloat16, width, true, true, false, true, false});
  }
}

TEST_F(NormTest, IsCloseToTheCpus) {
  for (const int32_t width : kRowWidths) {
    const std::vector<float> x = Random(width), weight = Random(width);
    DeviceArray<float> dx(x), dw(weight), dy(static_cast<size_t>(width));
    NormArgs a;
    a.x = {dx.data(), width};
    a.weight = dw.data();
    a.y = {dy.data(), width};
    a.rows = 1;
    a.width = width;
    a.element = Element::kFloat32;
    ASSERT_EQ(LaunchNorm(a, nullptr), cudaSuccess);
    std::vector<float> cpu(width);
    NormRowArgs row;
    row.x = x.data();
    row.weight = weight.data();
    row.n = width;
    row.y = cpu.data();
    Avx2Kernels().norm_row(row);
    const std::vector<float> y = dy.Read();
    for (int32_t i = 0; i < width; ++i) ASSERT_NEAR(y[i], cpu[i], 1e-5 * (1 + std::abs(cpu[i])));
  }
}

TEST_F(NormTest, RowsThatAreNoNumbersSayItInTheirScale) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> x = Random(5 * 40);
  x[3] = inf;
  x[40 + 39] = nan;
  for (int i = 80; i < 120; ++i) x[i] = 0;
  x[120] = -inf;
  GatedArgs a;
  DeviceArray<float> dx(x), scales(5);
  DeviceArray<int8_t> q(x.size());
  a.gate = {dx.data(), 40};
  a.y = {q.data(), 40, scales.data()};
  a.f = Gate::kRelu;
  a.rows = 5;
  a.width = 40;
  a.element = Element::kFloat32;
  ASSERT_EQ(LaunchGated(a, nullptr), cudaSuccess);
  const std::vector<float> got = scales.Read();
  EXPECT_TRUE(std::isnan(got[0]));
  EXPECT_EQ(got[2], 0);
  EXPECT_GT(got[4], 0);
  const std::vector<int8_t> codes = q.Read();
  EXPECT_TRUE(
      std::all_of(codes.begin() + 80, codes.begin() + 120, [](int8_t c) { return c == 0; }));
}

/// The CPU's, of a row.
std::vector<float> CpuActivated(Element element, Activation f, const float* gate, const float* up,
                                int32_t width, float limit, float alpha) {
  const std::vector<uint8_t> g = Encoded(element, {gate, gate + width});
  const std::vector<uint8_t> u =
      up == nullptr ? std::vector<uint8_t>() : Encoded(element, {up, up + width});
  std::vector<uint8_t> y(g.size());
  ActivationRowArgs a;
  a.bf16 = element == Element::kBFloat16;
  a.f = f;
  a.gate = g.data();
  a.up = up == nullptr ? nullptr : u.data();
  a.limit = limit;
  a.alpha = alpha;
  a.n = width;
  a.y = y.data();
  Avx2Kernels().activation_row(a);
  return Decoded(element, y);
}

TEST_F(RowsTest, GatedIsTheCpus) {
  const std::pair<Gate, Activation> functions[] = {
      {Gate::kSilu, Activation::kSilu},
      {Gate::kGelu, Activation::kGelu},
      {Gate::kGeluTanh, Activation::kGeluTanh},
      {Gate::kRelu, Activation::kRelu},
      {Gate::kSquaredRelu, Activation::kSquaredRelu},
      {Gate::kSigmoid, Activation::kSigmoid},
      {Gate::kSoftCap, Activation::kSoftCap},
      {Gate::kClampedSwiglu, Activation::kClampedSwiglu}};
  for (const Element element : {Element::kFloat32, Element::kBFloat16}) {
    for (const auto& [f, cpu_f] : functions) {
      for (const int32_t width : kRowWidths) {
        const int32_t rows = 1 + Below(6);
        const size_t size = size_t(rows) * width;
        const bool gated = f == Gate::kClampedSwiglu || Below(2) == 0;
        const bool bytes = Below(2) == 0;
        const bool of_sums = Below(2) == 0;
        std::vector<float> x = Random(2 * size, element);  // gates, then ups, of each row
        for (float& v : x) v = RoundedTo(element, v * 4);
        if (Below(4) == 0) x[0] = -1000;
        const Sums sums = RandomSums(rows, 2 * width);
        DeviceRows dx(element, x), dy(element, size);
        DeviceSums ds(sums);
        DeviceArray<int8_t> q(size);
        DeviceArray<float> scales(rows);
        if (of_sums) {
          for (size_t i = 0; i < x.size(); ++i) x[i] = RoundedTo(element, sums.values[i]);
        }
        GatedArgs a;
        const auto half = static_cast<int64_t>(BytesOf(element)) * width;
        a.gate = of_sums ? ds.Input(2 * width) : RowInput{dx.data(), 2 * width};
        if (gated && of_sums) {
          a.up = a.gate;
          a.up.data = ds.sums.data() + width;
          a.up.column_scales += width;
          a.up.bias += width;
        } else if (gated) {
          a.up = {dx.data() + half, 2 * width};
        }
        a.y = bytes ? RowOutput{q.data(), width, scales.data()} : RowOutput{dy.data(), width};
        a.f = f;
        a.limit = 3.0f;
        a.alpha = 1.702f;
        a.rows = rows;
        a.width = width;
        a.element = element;
        ASSERT_EQ(LaunchGated(a, nullptr), cudaSuccess);
        std::vector<float> expected;
        for (int32_t r = 0; r < rows; ++r) {
          const float* gate = x.data() + size_t(2) * r * width;
          const std::vector<float> row = CpuActivated(
              element, cpu_f, gate, gated ? gate + width : nullptr, width, a.limit, a.alpha);
          expected.insert(expected.end(), row.begin(), row.end());
        }
        const bool equal = f != Gate::kGelu;  // erff is the library's
        if (!bytes) {
          const std::vector<float> y = dy.Values();
          for (size_t i = 0; i < size; ++i) {
            if (equal) {
              ASSERT_EQ(y[i], expected[i]) << int(f) << " width " << width << " at " << i;
            } else {
              ASSERT_NEAR(y[i], expected[i], ToleranceOf(element) * (1 + std::abs(expected[i])));
            }
          }
        } else if (equal) {
          for (int32_t r = 0; r < rows; ++r) {
            std::vector<int8_t> cpu_q(width + 8);
            float cpu_scale;
            int32_t sum, start;
            QuantizeRowArgs row;
            row.x = expected.data() + r * width;
            row.k = row.group = width;
            row.q = cpu_q.data();
            row.stride = (width + 7) / 8 * 8;
            row.scales = &cpu_scale;
            row.sums = &sum;
            row.starts = &start;
            Avx2Kernels().quantize_row(row);
            const std::vector<int8_t> got = q.Read();
            ASSERT_EQ(scales.Read()[r], cpu_scale);
            for (int32_t i = 0; i < width; ++i) ASSERT_EQ(got[r * width + i], cpu_q[i]);
          }
        }
      }
    }
  }
}

TEST_F(RowsTest, RowsAreRoundedToBytesAsTheyAre) {
  for (const Element element : kNumberElements) {
    for (const int32_t width : kRowWidths) {
      const std::vector<float> x = Random(size_t{3} * width, element);
      DeviceRows dx(element, x);
      DeviceArray<int8_t> q(size_t{3} * width);
      DeviceArray<float> scales(size_t{3});
      GatedArgs a;
      a.gate = {dx.data(), width};
      a.y = {q.data(), width, scales.data()};
      a.f = Gate::kNone;
      a.rows = 3;
      a.width = width;
      a.element = element;
      ASSERT_EQ(LaunchGated(a, nullptr), cudaSuccess);
      const PlainBytes expected = RoundRows(x, 3, width);
      EXPECT_EQ(q.Read(), expected.q) << width;
      EXPECT_EQ(scales.Read(), expected.scales) << width;
    }
  }
}

TEST_F(RowsTest, NoRowsAreNoLaunch) {
  EXPECT_EQ(LaunchEmbed({}, nullptr), cudaSuccess);
  EXPECT_EQ(LaunchNorm({}, nullptr), cudaSuccess);
  EXPECT_EQ(LaunchGated({}, nullptr), cudaSuccess);
  EXPECT_EQ(LaunchRope({}, nullptr), cudaSuccess);
}

}  // namespace
}  // namespace penstock::PENSTOCK_KERNELS
