// Rows of every element type on the host and on the device, for the tests of row kernels.
// Owns the buffers. Must not know what kernels compute.
// Threads: confined to one thread.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/half.h"
#include "gtest/gtest.h"
#include "kernels/launch.h"
#include "parity/device_array.h"
#include "test_seed.h"

namespace penstock::PENSTOCK_KERNELS {

constexpr int32_t kRowWidths[] = {1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 256, 257, 1024, 2056};
constexpr Element kNumberElements[] = {Element::kFloat32, Element::kBFloat16, Element::kFloat16};

inline size_t BytesOf(Element element) {
  return element == Element::kFloat32 ? 4 : element == Element::kInt8 ? 1 : 2;
}
inline float RoundedTo(Element element, float v) {
  switch (element) {
    case Element::kBFloat16:
      return Bf16ToFloat(FloatToBf16(v));
    case Element::kFloat16:
      return Fp16ToFloat(FloatToFp16(v));
    default:
      return v;
  }
}
inline double ToleranceOf(Element element) { return element == Element::kFloat32 ? 1e-5 : 1e-2; }

/// As the device and the CPU's kernels keep them.
inline std::vector<uint8_t> Encoded(Element element, const std::vector<float>& values) {
  std::vector<uint8_t> raw(values.size() * BytesOf(element));
  for (size_t i = 0; i < values.size(); ++i) {
    if (element == Element::kFloat32) {
      std::memcpy(raw.data() + 4 * i, &values[i], 4);
    } else {
      const uint16_t half =
          element == Element::kBFloat16 ? FloatToBf16(values[i]) : FloatToFp16(values[i]);
      std::memcpy(raw.data() + 2 * i, &half, 2);
    }
  }
  return raw;
}
inline std::vector<float> Decoded(Element element, const std::vector<uint8_t>& raw) {
  std::vector<float> values(raw.size() / BytesOf(element));
  for (size_t i = 0; i < values.size(); ++i) {
    if (element == Element::kFloat32) {
      std::memcpy(&values[i], raw.data() + 4 * i, 4);
    } else if (element == Element::kInt8) {
      values[i] = static_cast<int8_t>(raw[i]);
    } else {
      uint16_t half;
      std::memcpy(&half, raw.data() + 2 * i, 2);
      values[i] = element == Element::kBFloat16 ? Bf16ToFloat(half) : Fp16ToFloat(half);
    }
  }
  return values;
}

/// Rows on the device.
class DeviceRows : public DeviceArray<uint8_t> {
 public:
  DeviceRows(Element element, const std::vector<float>& values)
      : DeviceArray(Encoded(element, values)), element_(element) {}
  /// Nothing was written to them.
  DeviceRows(Element element, size_t size)
      : DeviceArray(size * BytesOf(element)), element_(element) {}
  std::vector<float> Values() { return Decoded(element_, Read()); }

 private:
  Element element_;
};

class KernelRows : public testing::Test {
 protected:
  void SetUp() override {
    const uint64_t seed = TestSeed();
    random_.seed(static_cast<uint32_t>(seed));
    StartOnDevice(seed);
  }
  void TearDown() override {
    if (IsSkipped()) return;
    EXPECT_EQ(DeviceFault(), "");
  }

  float Normal() { return std::normal_distribution<float>()(random_); }
  int32_t Below(int32_t n) { return static_cast<int32_t>(random_() % n); }
  std::vector<float> Random(size_t n, Element element = Element::kFloat32) {
    std::vector<float> out(n);
    for (float& v : out) v = RoundedTo(element, Normal());
    return out;
  }

  /// Sums of a product of int8, their scales, and the numbers that they stand for.
  struct Sums {
    std::vector<int32_t> sums;
    std::vector<float> row_scales, column_scales, bias,
        values;  // values: not rounded to an element
  };
  Sums RandomSums(int32_t rows, int32_t width) {
    Sums s{std::vector<int32_t>(size_t(rows) * width), Random(rows), Random(width), Random(width),
           std::vector<float>(size_t(rows) * width)};
    for (float& v : s.row_scales) v = std::abs(v) * 0.001f;
    for (float& v : s.column_scales) v = std::abs(v) * 0.001f;
    for (int32_t r = 0; r < rows; ++r) {
      for (int32_t i = 0; i < width; ++i) {
        int32_t& sum = s.sums[r * width + i];
        sum = Below(2000001) - 1000000;
        if (Below(8) == 0) sum *= 200;  // beyond what a float holds exactly
        const float scaled = static_cast<float>(sum) * s.row_scales[r];
        s.values[r * width + i] = scaled * s.column_scales[i] + s.bias[i];
      }
    }
    return s;
  }

  std::mt19937 random_;
};

/// The same on the device.
struct DeviceSums {
  template <class Sums>
  explicit DeviceSums(const Sums& s)
      : sums(s.sums), row_scales(s.row_scales), column_scales(s.column_scales), bias(s.bias) {}
  RowInput Input(int64_t stride) {
    return {sums.data(), stride, row_scales.data(), column_scales.data(), bias.data()};
  }
  DeviceArray<int32_t> sums;
  DeviceArray<float> row_scales, column_scales, bias;
};

/// int8 and scale of each row, by the rule that RowOutput states.
struct PlainBytes {
  std::vector<int8_t> q;
  std::vector<float> scales;
};
inline PlainBytes RoundRows(const std::vector<float>& x, int32_t rows, int32_t width) {
  PlainBytes out{std::vector<int8_t>(x.size()), std::vector<float>(rows)};
  for (int32_t r = 0; r < rows; ++r) {
    float amax = 0;
    for (int32_t i = 0; i < width; ++i) amax = std::max(amax, std::abs(x[r * width + i]));
    float inverse = 127.0f / amax;
    out.scales[r] = amax / 127.0f;
    if (!(inverse <= 3.4e38f)) out.scales[r] = inverse = 0;
    for (int32_t i = 0; i < width; ++i) {
      const float q = std::nearbyint(x[r * width + i] * inverse);
      out.q[r * width + i] = static_cast<int8_t>(std::min(std::max(q, -127.0f), 127.0f));
    }
  }
  return out;
}

}  // namespace penstock::PENSTOCK_KERNELS
