// What the parity tests of operations share: matrices that know their rounded values, and a device
// under test.
// Owns its buffers. Must not know models or batches.
// Threads: confined to one thread.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/make_backend.h"
#include "base/half.h"
#include "parity/missing_device.h"
#include "test_seed.h"

namespace penstock {

inline constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();
inline constexpr int64_t kSizes[] = {1, 15, 16, 17, 63, 64, 65, 127, 128, 129};

/// A matrix that knows what its elements are after rounding to its type.
struct Matrix {
  int64_t rows = 0;
  int64_t cols = 0;
  DType dtype = DType::kFloat32;
  std::vector<float> values;     // rounded
  std::vector<uint16_t> halves;  // for the two-byte types

  float& at(int64_t r, int64_t c) { return values[r * cols + c]; }
  float at(int64_t r, int64_t c) const { return values[r * cols + c]; }
  const void* data() const {
    return dtype == DType::kFloat32 ? static_cast<const void*>(values.data()) : halves.data();
  }
  Tensor tensor() { return {const_cast<void*>(data()), dtype, rows, cols, cols}; }
  /// After an operation wrote the raw elements.
  void Read() {
    if (dtype == DType::kBFloat16)
      std::transform(halves.begin(), halves.end(), values.begin(), Bf16ToFloat);
  }
};

inline Matrix Filled(int64_t rows, int64_t cols, DType dtype, const std::function<float()>& next) {
  Matrix m{rows, cols, dtype, std::vector<float>(rows * cols), {}};
  for (float& v : m.values) v = next();
  if (dtype == DType::kFloat32) return m;
  for (float& v : m.values) {
    m.halves.push_back(dtype == DType::kBFloat16 ? FloatToBf16(v) : FloatToFp16(v));
    v = dtype == DType::kBFloat16 ? Bf16ToFloat(m.halves.back()) : Fp16ToFloat(m.halves.back());
  }
  return m;
}

inline double Tolerance(DType dtype) { return dtype == DType::kFloat32 ? 1e-5 : 1e-2; }

inline void ExpectClose(const Matrix& got, const std::vector<double>& expected, double tolerance) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    error += (got.values[i] - expected[i]) * (got.values[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  EXPECT_TRUE(std::sqrt(error) <= tolerance * std::sqrt(norm))
      << std::sqrt(error / norm) << " for [" << got.rows << ", " << got.cols << "]";
}
inline void ExpectClose(const Matrix& got, const std::vector<double>& expected) {
  ExpectClose(got, expected, Tolerance(got.dtype));
}

class OpsParity : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    random_.seed(static_cast<uint32_t>(TestSeed()));
    auto device = OpenBackend({GetParam(), &pool_});
    PENSTOCK_NEEDS_DEVICE(GetParam(), absl::IsUnavailable(device.status()), device.status());
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = std::move(device->device);
    abilities_ = device->abilities;
  }
  float Normal() { return std::normal_distribution<float>()(random_); }
  int64_t AnySize() { return kSizes[random_() % std::size(kSizes)]; }
  Matrix Random(int64_t rows, int64_t cols, DType dtype) {
    return Filled(rows, cols, dtype, [this] { return Normal(); });
  }
  static Matrix Poisoned(int64_t rows, int64_t cols, DType dtype) {
    return Filled(rows, cols, dtype, [] { return kPoison; });
  }
  static std::vector<DType> Activations() { return {DType::kFloat32, DType::kBFloat16}; }
  /// Of what linear layers read.
  std::vector<DType> Inputs() const {
    return abilities_.float32 ? Activations() : std::vector<DType>{DType::kBFloat16};
  }
  Ops& ops() { return device_->ops(); }

  /// A copy on the device for the rest of the test; what the host has, where that is the device's.
  void* OnDevice(const void* data, size_t bytes) {
    if (device_->shares_host_memory()) return const_cast<void*>(data);
    auto buffer = device_->Allocate(bytes);
    EXPECT_TRUE(buffer.ok()) << buffer.status();
    device_->CopyToDevice(buffer->data(), data, bytes);
    return buffers_.emplace_back(*std::move(buffer)).data();
  }
  Tensor OnDevice(const Matrix& m) {
    Tensor t{nullptr, m.dtype, m.rows, m.cols, m.cols};
    t.data = OnDevice(m.data(), m.values.size() * DTypeSize(m.dtype));
    return t;
  }
  const float* OnDevice(const std::vector<float>& values) {
    return static_cast<const float*>(OnDevice(values.data(), values.size() * sizeof(float)));
  }
  /// What an operation made of a copy.
  void Read(const Tensor& t, Matrix& m) {
    const absl::Status done = device_->Synchronize();
    ASSERT_TRUE(done.ok()) << done;
    if (!device_->shares_host_memory()) {
      device_->CopyToHost(const_cast<void*>(m.data()), t.data,
                          m.values.size() * DTypeSize(m.dtype));
    }
    m.Read();
  }

  std::mt19937 random_;
  WorkerPool pool_{2};
  std::unique_ptr<Device> device_;
  DeviceAbilities abilities_;
  std::vector<DeviceBuffer> buffers_;  // before the device goes
};

inline std::string NameOfDevice(const ::testing::TestParamInfo<std::string>& info) {
  return info.param == "cuda-emulated" ? "cuda_emulated" : info.param;
}

}  // namespace penstock
