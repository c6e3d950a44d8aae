#include "model/quantized_readers.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/half.h"

namespace penstock {
namespace {

/// Which row of eight each nibble of an AWQ word holds, and where each row is.
constexpr int kAwqRowOfNibble[8] = {0, 2, 4, 6, 1, 3, 5, 7};
constexpr int kAwqNibbleOfRow[8] = {0, 4, 1, 5, 2, 6, 3, 7};

uint32_t WordAt(const char* words, int64_t i) {
  uint32_t word;
  std::memcpy(&word, words + i * 4, sizeof word);
  return word;
}

/// Column order [k] -> where each of the file's columns goes.
std::vector<int32_t> Inverse(const std::vector<int32_t>& order) {
  std::vector<int32_t> inverse(order.size());
  for (size_t i = 0; i < order.size(); ++i) inverse[order[i]] = static_cast<int32_t>(i);
  return inverse;
}

/// A reader with codes at `data_`, whose columns may be reordered.
class FileRows : public CheckpointRows {
 public:
  explicit FileRows(CheckpointParts p)
      : CheckpointRows(p.rows, p.k, std::move(p.form), p.scales, p.zeros, std::move(p.owner)),
        data_(p.codes),
        target_(Inverse(form().column_order)) {}

 protected:
  const char* data() const { return data_; }
  /// Column of the codes that the file's column `c` is.
  int64_t Target(int64_t c) const { return target_.empty() ? c : target_[c]; }

 private:
  const char* data_;
  std::vector<int32_t> target_;
};

class GptqRows final : public FileRows {
 public:
  using FileRows::FileRows;

 private:
  void ReadCodes(int64_t begin, int64_t num_rows, uint8_t* codes) const override {
    const int bits = form().bits;
    const int64_t per_word = 32 / bits;
    const uint32_t mask = (1u << bits) - 1;
    for (int64_t w = 0; w < k() / per_word; ++w) {
      for (int64_t r = 0; r < num_rows; ++r) {
        uint32_t word = WordAt(data(), w * rows() + begin + r);
        for (int64_t i = 0; i < per_word; ++i, word >>= bits) {
          codes[r * k() + Target(w * per_word + i)] = static_cast<uint8_t>(word & mask);
        }
      }
    }
  }
};

class AwqRows final : public FileRows {
 public:
  using FileRows::FileRows;

 private:
  void ReadCodes(int64_t begin, int64_t num_rows, uint8_t* codes) const override {
    const int64_t words = rows() / 8;
    for (int64_t c = 0; c < k(); ++c) {
      for (int64_t w = begin / 8; w * 8 < begin + num_rows; ++w) {
        const uint32_t word = WordAt(data(), c * words + w);
        for (int i = 0; i < 8; ++i) {
          const int64_t row = w * 8 + kAwqRowOfNibble[i] - begin;
          if (row < 0 || row >= num_rows) continue;
          codes[row * k() + c] = static_cast<uint8_t>(word >> (4 * i) & 15);
        }
      }
    }
  }
};

class PackedRows final : public FileRows {
 public:
  using FileRows::FileRows;

 private:
  void ReadCodes(int64_t begin, int64_t num_rows, uint8_t* codes) const override {
    const int bits = form().bits;
    const int64_t per_word = 32 / bits;
    const int64_t words = (k() + per_word - 1) / per_word;
    const uint32_t mask = (1u << bits) - 1;
    for (int64_t r = 0; r < num_rows; ++r) {
      for (int64_t c = 0; c < k(); ++c) {
        const uint32_t word = WordAt(data(), (begin + r) * words + c / per_word);
        codes[r * k() + Target(c)] = static_cast<uint8_t>(word >> (c % per_word * bits) & mask);
      }
    }
  }
};

class ByteRows final : public FileRows {
 public:
  ByteRows(CheckpointParts parts, uint8_t flip) : FileRows(std::move(parts)), flip_(flip) {}

 private:
  void ReadCodes(int64_t begin, int64_t num_rows, uint8_t* codes) const override {
    const char* from = data() + begin * k();
    for (int64_t i = 0; i < num_rows * k(); ++i) codes[i] = static_cast<uint8_t>(from[i]) ^ flip_;
  }

  uint8_t flip_;
};

class NibbleRows final : public FileRows {
 public:
  using FileRows::FileRows;

 private:
  void ReadCodes(int64_t begin, int64_t num_rows, uint8_t* codes) const override {
    const char* from = data() + begin * k() / 2;
    for (int64_t i = 0; i < num_rows * k() / 2; ++i) {
      const auto byte = static_cast<uint8_t>(from[i]);
      codes[2 * i] = byte & 15;
      codes[2 * i + 1] = byte >> 4;
    }
  }
};

}  // namespace

float ScaleGrid::At(int64_t row, int64_t group) const {
  const int64_t i = row / block_rows * row_stride + group * group_stride;
  const char* p = data + i * static_cast<int64_t>(DTypeSize(dtype));
  if (dtype == DType::kFloat8E8M0) {
    const auto exponent = static_cast<uint8_t>(*p);
    return exponent == 255 ? std::numeric_limits<float>::quiet_NaN()
                           : std::ldexp(1.0f, exponent - 127);
  }
  if (dtype == DType::kFloat32) return std::bit_cast<float>(WordAt(p, 0));
  uint16_t half;
  std::memcpy(&half, p, sizeof half);
  return dtype == DType::kBFloat16 ? Bf16ToFloat(half) : Fp16ToFloat(half);
}

int32_t ZeroGrid::At(int64_t row, int64_t group) const {
  if (data == nullptr) return add;
  if (bits == 0) {
    return static_cast<int8_t>(data[row / block_rows * row_stride + group * group_stride]) + add;
  }
  const int64_t per_word = 32 / bits;
  const uint32_t word = WordAt(data, row / per_word * row_stride + group * group_stride);
  const int64_t within = interleaved ? kAwqNibbleOfRow[row % 8] : row % per_word;
  return static_cast<int32_t>((word >> (within * bits)) + static_cast<uint32_t>(add)) &
         ((1 << bits) - 1);
}

void CheckpointRows::Read(int64_t begin, int64_t num_rows, uint8_t* codes, float* scales,
                          float* offsets) const {
  if (codes != nullptr) ReadCodes(begin, num_rows, codes);
  for (int64_t r = 0; r < num_rows; ++r) {
    for (int64_t g = 0; g < num_groups(); ++g) {
      const float scale = scales_.At(begin + r, g);
      if (scales != nullptr) *scales++ = scale;
      if (offsets == nullptr) continue;
      const int32_t zero = zeros_.At(begin + r, g) - form().center;
      *offsets++ = zero == 0 ? 0.0f : scale * static_cast<float>(-zero);
    }
  }
}

std::shared_ptr<const QuantizedRows> MakeGptqRows(CheckpointParts parts) {
  return std::make_shared<GptqRows>(std::move(parts));
}
std::shared_ptr<const QuantizedRows> MakeAwqRows(CheckpointParts parts) {
  return std::make_shared<AwqRows>(std::move(parts));
}
std::shared_ptr<const QuantizedRows> MakePackedRows(CheckpointParts parts) {
  return std::make_shared<PackedRows>(std::move(parts));
}
std::shared_ptr<const QuantizedRows> MakeByteRows(CheckpointParts parts, uint8_t flip) {
  return std::make_shared<ByteRows>(std::move(parts), flip);
}
std::shared_ptr<const QuantizedRows> MakeNibbleRows(CheckpointParts parts) {
  return std::make_shared<NibbleRows>(std::move(parts));
}

std::vector<float> Float8Book() {
  std::vector<float> book(256);
  for (int code = 0; code < 256; ++code) {
    const int exponent = code >> 3 & 15;
    const int mantissa = code & 7;
    float value = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
    if ((code & 127) == 127) value = std::numeric_limits<float>::quiet_NaN();
    book[code] = code >= 128 ? -value : value;
  }
  return book;
}

std::vector<float> Float4Book() {
  std::vector<float> book = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  for (int i = 0; i < 8; ++i) book.push_back(-book[i]);
  return book;
}

}  // namespace penstock
