#include "model/sliced_columns.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

class SlicedCodes final : public QuantizedRows {
 public:
  SlicedCodes(std::shared_ptr<const QuantizedRows> whole, QuantizedForm form, int64_t begin,
              int64_t count)
      : QuantizedRows(whole->rows(), count, std::move(form)),
        whole_(std::move(whole)),
        begin_(begin),
        first_group_(begin / whole_->form().group) {}

  void Read(int64_t begin, int64_t num_rows, uint8_t* codes, float* scales,
            float* offsets) const override {
    const int64_t all = whole_->num_groups();
    std::vector<uint8_t> all_codes(codes == nullptr ? 0 : num_rows * whole_->k());
    std::vector<float> all_scales(scales == nullptr ? 0 : num_rows * all);
    std::vector<float> all_offsets(offsets == nullptr || !form().has_offset ? 0 : num_rows * all);
    const auto data = [](auto& values) { return values.empty() ? nullptr : values.data(); };
    whole_->Read(begin, num_rows, data(all_codes), data(all_scales), data(all_offsets));
    const auto copy = [&](const auto& from, int64_t width, int64_t first, int64_t count, auto* to) {
      for (int64_t r = 0; !from.empty() && r < num_rows; ++r)
        std::copy_n(from.data() + r * width + first, count, to + r * count);
    };
    copy(all_codes, whole_->k(), begin_, k(), codes);
    copy(all_scales, all, first_group_, num_groups(), scales);
    copy(all_offsets, all, first_group_, num_groups(), offsets);
  }
  std::optional<DType> scale_type() const override { return whole_->scale_type(); }

 private:
  std::shared_ptr<const QuantizedRows> whole_;
  int64_t begin_;
  int64_t first_group_;
};

}  // namespace

absl::StatusOr<HostLinear> SliceColumns(const HostLinear& whole, int64_t begin, int64_t count,
                                        const std::string& name) {
  HostLinear slice;
  slice.integer_input = whole.integer_input;
  if (whole.codes != nullptr) {
    const QuantizedForm& form = whole.codes->form();
    const int64_t k = whole.codes->k();
    const int64_t end = begin + count;
    const bool row_scale = form.group >= k;
    if (!form.column_order.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(name,
                       ": its columns have an order of their own (act-order), in which ranks "
                       "cannot share them"));
    }
    if (!row_scale && (begin % form.group != 0 || (end % form.group != 0 && end != k))) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": columns ", begin, " to ", end,
                                                     " are a rank's, which is not at a "
                                                     "border of its groups of ",
                                                     form.group, " columns"));
    }
    QuantizedForm own = form;
    if (row_scale) own.group = count;
    slice.codes = std::make_shared<SlicedCodes>(whole.codes, std::move(own), begin, count);
    return slice;
  }
  const HostTensor& plain = whole.plain;
  const int64_t rows = plain.shape[0];
  const auto size = static_cast<int64_t>(DTypeSize(plain.dtype));
  auto bytes = std::make_shared<std::vector<char>>(rows * count * size);
  const char* from = static_cast<const char*>(plain.data) + begin * size;
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(bytes->data() + r * count * size, from + r * plain.shape[1] * size, count * size);
  }
  slice.plain = {plain.dtype, {rows, count}, bytes->data(), bytes};
  return slice;
}

}  // namespace penstock
