// A quantised matrix whose codes lie in memory, for tests.
// Owns them. Must not know files or models.
// Threads: immutable.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "backend/quantized_rows.h"

namespace penstock {

class CodesInMemory final : public QuantizedRows {
 public:
  CodesInMemory(int64_t rows, int64_t k, QuantizedForm form, std::vector<uint8_t> codes,
                std::vector<float> scales, std::vector<float> offsets)
      : QuantizedRows(rows, k, std::move(form)),
        codes_(std::move(codes)),
        scales_(std::move(scales)),
        offsets_(std::move(offsets)) {}

  void Read(int64_t begin, int64_t num_rows, uint8_t* codes, float* scales,
            float* offsets) const override {
    Copy(codes_, begin, num_rows, k(), codes);
    Copy(scales_, begin, num_rows, num_groups(), scales);
    Copy(offsets_, begin, num_rows, num_groups(), offsets);
  }

 private:
  template <class T>
  static void Copy(const std::vector<T>& from, int64_t begin, int64_t num_rows, int64_t width,
                   T* to) {
    if (to != nullptr) std::copy_n(from.begin() + begin * width, num_rows * width, to);
  }

  std::vector<uint8_t> codes_;
  std::vector<float> scales_;
  std::vector<float> offsets_;
};

}  // namespace penstock
