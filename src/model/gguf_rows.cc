#include "model/gguf_rows.h"

#include <cstring>
#include <optional>
#include <utility>

namespace penstock {
namespace {

/// For each column of the file, the checkpoint's; empty where they are in order.
std::vector<int32_t> ColumnOrder(const GgufRows& rows) {
  std::vector<int32_t> order;
  if (rows.tiled_columns.key_heads == 0) return order;
  order.resize(rows.k);
  for (int64_t c = 0; c < rows.k; ++c)
    order[rows.tiled_columns.InFile(c)] = static_cast<int32_t>(c);
  return order;
}

std::vector<float> BookOf(absl::Span<const float> book) { return {book.begin(), book.end()}; }

class GgufQuantizedRows final : public QuantizedRows {
 public:
  GgufQuantizedRows(const GgufRows& rows, const GgmlForm& form, std::shared_ptr<const void> owner)
      : QuantizedRows(rows.rows, rows.k,
                      QuantizedForm{.bits = form.bits,
                                    .group = form.group,
                                    .center = form.center,
                                    .has_offset = form.has_offset,
                                    .book = BookOf(form.book),
                                    .column_order = ColumnOrder(rows)}),
        rows_(rows),
        owner_(std::move(owner)) {}

  void Read(int64_t begin, int64_t num_rows, uint8_t* codes, float* scales,
            float* offsets) const override {
    const int64_t groups = num_groups();
    for (int64_t i = 0; i < num_rows; ++i) {
      DecodeGgmlRows(rows_.type, rows_.Row(begin + i), 1, rows_.k,
                     {codes != nullptr ? codes + i * rows_.k : nullptr,
                      scales != nullptr ? scales + i * groups : nullptr,
                      offsets != nullptr ? offsets + i * groups : nullptr});
    }
  }

 private:
  GgufRows rows_;
  std::shared_ptr<const void> owner_;
};

/// The elements of a row, `size` bytes each, in the checkpoint's order.
void CopyRow(const std::byte* from, const std::vector<int32_t>& order, int64_t k, size_t size,
             std::byte* to) {
  if (order.empty()) {
    std::memcpy(to, from, k * size);
    return;
  }
  for (int64_t c = 0; c < k; ++c) std::memcpy(to + order[c] * size, from + c * size, size);
}

}  // namespace

const std::byte* GgufRows::Row(int64_t r) const {
  if (odd_rows != nullptr) return (r % 2 == 0 ? data : odd_rows) + r / 2 * row_bytes;
  if (tiled_rows.key_heads > 0 && r >= tiled_begin)
    return data + (tiled_begin + tiled_rows.InFile(r - tiled_begin)) * row_bytes;
  if (turned_dim == 0) return data + r * row_bytes;
  const int64_t within = r % turned_dim;
  const int64_t half = turned_dim / 2;
  const int64_t from = within < half ? 2 * within : 2 * (within - half) + 1;
  return data + (r - within + from) * row_bytes;
}

HostTensor GgufNumbers(const GgufRows& rows, absl::Span<const int64_t> shape,
                       std::shared_ptr<const void> owner) {
  HostTensor out;
  out.shape.assign(shape.begin(), shape.end());
  const std::optional<DType> plain = PlainGgmlType(rows.type);
  if (plain && rows.in_order() && !rows.minus_one) {
    out.dtype = *plain;
    out.data = rows.data;
    out.owner = std::move(owner);
    return out;
  }
  const std::vector<int32_t> order = ColumnOrder(rows);
  if (plain && !rows.minus_one) {
    auto bytes = std::make_shared<std::vector<std::byte>>(rows.rows * rows.row_bytes);
    for (int64_t r = 0; r < rows.rows; ++r)
      CopyRow(rows.Row(r), order, rows.k, DTypeSize(*plain), bytes->data() + r * rows.row_bytes);
    out.dtype = *plain;
    out.data = bytes->data();
    out.owner = bytes;
    return out;
  }
  auto values = std::make_shared<std::vector<float>>(rows.rows * rows.k);
  std::vector<float> row(rows.k);
  for (int64_t r = 0; r < rows.rows; ++r) {
    DequantizeGgmlRows(rows.type, rows.Row(r), 1, rows.k, row.data());
    for (int64_t c = 0; c < rows.k; ++c)
      (*values)[r * rows.k + (order.empty() ? c : order[c])] = row[c] - (rows.minus_one ? 1 : 0);
  }
  out.data = values->data();
  out.owner = values;
  return out;
}

std::shared_ptr<const QuantizedRows> GgufCodes(const GgufRows& rows,
                                               std::shared_ptr<const void> owner) {
  const std::optional<GgmlForm> form = GgmlFormOf(rows.type);
  if (!form) return nullptr;
  return std::make_shared<GgufQuantizedRows>(rows, *form, std::move(owner));
}

}  // namespace penstock
