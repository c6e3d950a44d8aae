// Readers of the quantised forms of safetensors checkpoints: each lies on a mapped file and hands
// out rows of codes, scales and offsets. Shapes and dtypes were checked by quantized_tensors.cc.
// Owns a share of the mapping. Must not know names, configs or devices.
// Threads: immutable; Read may run on several threads at once.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/quantized_rows.h"
#include "penstock/types.h"

namespace penstock {

/// Scale of (row, group): element row / block_rows * row_stride + group * group_stride.
struct ScaleGrid {
  const char* data = nullptr;
  DType dtype = DType::kFloat32;  // float32, float16, bfloat16 or float8_e8m0
  int64_t block_rows = 1;
  int64_t row_stride = 0;
  int64_t group_stride = 0;

  float At(int64_t row, int64_t group) const;
};

/// Zero points: int8 plus `add`, or, where bits is 4 or 8, packed along rows in 32-bit words, plus
/// `add` modulo 1 << bits.
struct ZeroGrid {
  const char* data = nullptr;  // null: every zero point is `add`
  int32_t bits = 0;            // 0: int8, laid out as the scales are
  int64_t block_rows = 1;      // int8 alone
  int64_t row_stride = 0;      // of words, or of int8 elements
  int64_t group_stride = 0;
  bool interleaved = false;  // AWQ's order of 8 rows in a word
  int32_t add = 0;

  int32_t At(int64_t row, int64_t group) const;
};

class CheckpointRows : public QuantizedRows {
 public:
  CheckpointRows(int64_t rows, int64_t k, QuantizedForm form, ScaleGrid scales, ZeroGrid zeros,
                 std::shared_ptr<const void> owner)
      : QuantizedRows(rows, k, std::move(form)),
        scales_(scales),
        zeros_(zeros),
        owner_(std::move(owner)) {}

  void Read(int64_t begin, int64_t num_rows, uint8_t* codes, float* scales,
            float* offsets) const final;

 private:
  virtual void ReadCodes(int64_t begin, int64_t num_rows, uint8_t* codes) const = 0;

  ScaleGrid scales_;
  ZeroGrid zeros_;
  std::shared_ptr<const void> owner_;
};

/// What every reader is made of.
struct CheckpointParts {
  int64_t rows = 0;
  int64_t k = 0;
  QuantizedForm form;
  ScaleGrid scales;
  ZeroGrid zeros;
  std::shared_ptr<const void> owner;
  const char* codes = nullptr;
};

/// Words [k * bits / 32, rows], the lowest bits the first column. The form's column order sorts the
/// file's columns.
std::shared_ptr<const QuantizedRows> MakeGptqRows(CheckpointParts parts);
/// Words [k, rows / 8], rows interleaved.
std::shared_ptr<const QuantizedRows> MakeAwqRows(CheckpointParts parts);
/// Words [rows, ceil(k * bits / 32)], the lowest bits the first column; column order as GPTQ's.
std::shared_ptr<const QuantizedRows> MakePackedRows(CheckpointParts parts);
/// Bytes [rows, k], each code the byte ^ `flip`.
std::shared_ptr<const QuantizedRows> MakeByteRows(CheckpointParts parts, uint8_t flip);
/// Bytes [rows, k / 2], the low half the first column.
std::shared_ptr<const QuantizedRows> MakeNibbleRows(CheckpointParts parts);

/// The numbers that the 256 codes of float8_e4m3 stand for.
std::vector<float> Float8Book();
/// The numbers that the 16 codes of OCP's FP4 (e2m1) stand for.
std::vector<float> Float4Book();

}  // namespace penstock
