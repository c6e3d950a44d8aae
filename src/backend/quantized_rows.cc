#include "backend/quantized_rows.h"

namespace penstock {

bool TakesIntegerInput(const QuantizedForm& form, int64_t k) {
  constexpr int64_t kMostColumns = 32768;  // 127 (255 + 256) times as many is below 2^31
  const int32_t most = form.bits == 4 ? 15 : 255;
  return form.book.empty() && (form.group % 8 == 0 || form.group >= k) && k <= kMostColumns &&
         form.center >= 0 && form.center <= most;
}

void Dequantize(const QuantizedRows& matrix, int64_t begin, int64_t num_rows, float* values) {
  const QuantizedForm& form = matrix.form();
  const int64_t k = matrix.k();
  const int64_t num_groups = matrix.num_groups();
  std::vector<uint8_t> codes(k);
  std::vector<float> scales(num_groups);
  std::vector<float> offsets(form.has_offset ? num_groups : 0);
  for (int64_t r = 0; r < num_rows; ++r, values += k) {
    matrix.Read(begin + r, 1, codes.data(), scales.data(),
                form.has_offset ? offsets.data() : nullptr);
    for (int64_t c = 0; c < k; ++c) {
      const float number =
          form.book.empty() ? static_cast<float>(codes[c] - form.center) : form.book[codes[c]];
      float value = scales[c / form.group] * number;
      if (form.has_offset) value += offsets[c / form.group];
      values[form.column_order.empty() ? c : form.column_order[c]] = value;
    }
  }
}

}  // namespace penstock
