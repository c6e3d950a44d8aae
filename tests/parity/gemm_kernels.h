// A product on the device and what it must leave, for the tests of linear layers.
// Owns the buffers. Must not know formats of weights.
// Threads: confined to one thread.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "parity/kernel_rows.h"

namespace penstock::PENSTOCK_KERNELS {

constexpr int32_t kGemmTestRows[] = {1, 7, 8, 15, 16, 17, 33, 63, 64, 65, 130};
constexpr int32_t kMostRows = 130;
constexpr float kPadding = 777.0f;

class KernelGemm : public KernelRows {
 protected:
  /// x on the device: rows of k numbers and what no kernel may read as numbers.
  struct Inputs {
    std::vector<float> values;  // [kMostRows, k]
    int64_t stride;
    std::vector<float> padded;  // [kMostRows, stride]
  };
  Inputs RandomInputs(int32_t k, Element element) {
    Inputs x{Random(size_t(kMostRows) * k, element), (k + 7) / 8 * 8 + 8 * Below(3), {}};
    x.padded.assign(kMostRows * x.stride, std::numeric_limits<float>::quiet_NaN());
    for (int32_t r = 0; r < kMostRows; ++r) {
      std::copy_n(x.values.begin() + int64_t{r} * k, k, x.padded.begin() + r * x.stride);
    }
    return x;
  }

  /// x w^T in double precision; x [kMostRows, k], w [n, k].
  static std::vector<double> Product(const std::vector<float>& x, const std::vector<float>& w,
                                     int32_t n, int32_t k) {
    std::vector<double> out(size_t(kMostRows) * n);
    for (int32_t r = 0; r < kMostRows; ++r) {
      for (int32_t c = 0; c < n; ++c) {
        double sum = 0;
        for (int32_t i = 0; i < k; ++i) {
          sum += double{x[int64_t{r} * k + i]} * w[int64_t{c} * k + i];
        }
        out[r * int64_t{n} + c] = sum;
      }
    }
    return out;
  }

  /// As the kernel has it, m rows; what is beside them is as it was.
  template <class LaunchFn>
  std::vector<float> Multiply(GemmArgs a, int32_t m, const std::vector<float>& before,
                              const LaunchFn& launch) {
    const int64_t stride = a.n + 3;
    std::vector<float> y(m * stride, kPadding);
    for (int32_t r = 0; r < m; ++r) {
      std::copy_n(before.begin() + r * int64_t{a.n}, a.n, y.begin() + r * stride);
    }
    DeviceRows dy(a.y_element, y);
    a.y = dy.data();
    a.y_stride = stride;
    a.m = m;
    EXPECT_EQ(launch(a), cudaSuccess);
    const std::vector<float> all = dy.Values();
    std::vector<float> out(int64_t{m} * a.n);
    for (int32_t r = 0; r < m; ++r) {
      std::copy_n(all.begin() + r * stride, a.n, out.begin() + r * int64_t{a.n});
      for (int64_t c = a.n; c < stride; ++c) {
        EXPECT_EQ(all[r * stride + c], RoundedTo(a.y_element, kPadding));
      }
    }
    return out;
  }

  static void ExpectClose(const std::vector<float>& out, const std::vector<double>& exact,
                          double tolerance) {
    double distance = 0;
    double norm = 0;
    for (size_t i = 0; i < out.size(); ++i) {
      distance += (out[i] - exact[i]) * (out[i] - exact[i]);
      norm += exact[i] * exact[i];
    }
    EXPECT_LE(std::sqrt(distance), tolerance * std::sqrt(norm));  // false for NaN
  }

  /// Scratch for products of up to n columns; counters are zero before and after.
  struct Work {
    Work(int32_t at_once, int32_t n)
        : at_once(at_once),
          partials(GemmPartialBytes(at_once)),
          arrived(std::vector<int32_t>(GemmCounters(n))) {}
    GemmWorkspace Get() { return {partials.data(), arrived.data(), at_once}; }
    void ExpectClean() {
      for (const int32_t count : arrived.Read()) EXPECT_EQ(count, 0);
    }
    int32_t at_once;
    DeviceArray<uint8_t> partials;
    DeviceArray<int32_t> arrived;
  };
};

}  // namespace penstock::PENSTOCK_KERNELS
