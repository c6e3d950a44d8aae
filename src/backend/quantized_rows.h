// A quantised matrix on the host as a checkpoint's reader offers it and a device packs it: codes of
// 4 or 8 bits, scales and offsets of groups of columns.
// Owns its form. Must not know files or what the matrix is for.
// Threads: immutable; Read may run on several threads at once.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "penstock/types.h"

namespace penstock {

/// value(r, c) = scale[r, c / group] * number(code[r, c]) + offset[r, c / group], each operation
/// rounded to float32. number(code) is book[code], or code - center where there is no book.
struct QuantizedForm {
  int32_t bits = 4;         // 4 or 8: codes in [0, 1 << bits)
  int64_t group = 1;        // columns that share a scale, >= 1; the last group may be short
  int32_t center = 0;       // |center| <= 256
  bool has_offset = false;  // else the offsets are 0
  std::vector<float> book;  // [1 << bits]; empty: none
  /// [k], a permutation: column c of the codes multiplies x[column_order[c]]; empty: x[c].
  std::vector<int32_t> column_order;

  friend bool operator==(const QuantizedForm&, const QuantizedForm&) = default;
};

/// Whether a layer of codes of this form can be multiplied in integers, group by group: no book, a
/// group of whole runs of 8 columns or the row, a row that 32 bits can sum.
bool TakesIntegerInput(const QuantizedForm& form, int64_t k);

class QuantizedRows {
 public:
  virtual ~QuantizedRows() = default;
  /// `form` is consistent with `k`: loaders refuse a file for which it would not be.
  QuantizedRows(int64_t rows, int64_t k, QuantizedForm form)
      : rows_(rows), k_(k), form_(std::move(form)) {}

  int64_t rows() const { return rows_; }
  int64_t k() const { return k_; }
  const QuantizedForm& form() const { return form_; }
  int64_t num_groups() const { return (k_ + form_.group - 1) / form_.group; }

  /// Rows [begin, begin + num_rows): codes [num_rows, k], one a byte; scales and offsets
  /// [num_rows, num_groups]. A null pointer is not written to; offsets are null where the form has
  /// none. Scales are cheap to read without codes.
  virtual void Read(int64_t begin, int64_t num_rows, uint8_t* codes, float* scales,
                    float* offsets) const = 0;

  /// A type that holds every scale exactly, where the form has no offsets and the type is known
  /// without reading them.
  virtual std::optional<DType> scale_type() const { return std::nullopt; }

 private:
  int64_t rows_;
  int64_t k_;
  QuantizedForm form_;
};

/// values [num_rows, k] of rows [begin, begin + num_rows), in the order of x.
void Dequantize(const QuantizedRows& matrix, int64_t begin, int64_t num_rows, float* values);

}  // namespace penstock
