#include "model/quantized_tensors.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "model/quantized_readers.h"

namespace penstock {
namespace {

using Shape = std::vector<int64_t>;

constexpr DType kScaleTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};
constexpr DType kFloat8ScaleTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16,
                                       DType::kFloat8E8M0};
constexpr DType kWords[] = {DType::kInt32};
constexpr DType kBytes[] = {DType::kUInt8};
constexpr DType kSignedBytes[] = {DType::kInt8};
constexpr DType kFloat8[] = {DType::kFloat8E4M3};

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

const char* Bytes(const SafetensorsEntry* entry) {
  return reinterpret_cast<const char*>(entry->data.data());
}

/// Looks at one layer's tensors.
class LayerTensors {
 public:
  LayerTensors(const std::shared_ptr<const Safetensors>& files, const std::string& layer,
               const QuantScheme& scheme, int64_t rows, int64_t k)
      : files_(files), layer_(layer), scheme_(scheme) {
    parts_.rows = rows;
    parts_.k = k;
    parts_.owner = files;
    parts_.form.bits = scheme.bits;
    parts_.form.group = scheme.group == 0 ? k : scheme.group;
    num_groups_ = CeilDiv(k, parts_.form.group);
  }

  absl::StatusOr<std::shared_ptr<const QuantizedRows>> Gptq() {
    const int64_t per_word = 32 / scheme_.bits;
    if (rows() % per_word != 0 || k() % per_word != 0) return Uneven(per_word);
    ASSIGN_OR_RETURN(const SafetensorsEntry* codes,
                     Named(".qweight", kWords, {{k() / per_word, rows()}}));
    RETURN_IF_ERROR(ScalesByGroup());
    ASSIGN_OR_RETURN(const SafetensorsEntry* zeros,
                     Named(".qzeros", kWords, {{num_groups_, rows() / per_word}}));
    parts_.zeros = {.data = Bytes(zeros),
                    .bits = scheme_.bits,
                    .row_stride = 1,
                    .group_stride = rows() / per_word,
                    .add = scheme_.zero_minus_one ? 1 : 0};
    SetCenter();
    RETURN_IF_ERROR(ColumnOrder(".g_idx"));
    parts_.codes = Bytes(codes);
    return MakeGptqRows(std::move(parts_));
  }

  absl::StatusOr<std::shared_ptr<const QuantizedRows>> Awq() {
    if (rows() % 8 != 0) return Uneven(8);
    ASSIGN_OR_RETURN(const SafetensorsEntry* codes, Named(".qweight", kWords, {{k(), rows() / 8}}));
    RETURN_IF_ERROR(ScalesByGroup());
    ASSIGN_OR_RETURN(const SafetensorsEntry* zeros,
                     Named(".qzeros", kWords, {{num_groups_, rows() / 8}}));
    parts_.zeros = {.data = Bytes(zeros),
                    .bits = 4,
                    .row_stride = 1,
                    .group_stride = rows() / 8,
                    .interleaved = true};
    SetCenter();
    parts_.codes = Bytes(codes);
    return MakeAwqRows(std::move(parts_));
  }

  absl::StatusOr<std::shared_ptr<const QuantizedRows>> Packed() {
    const int64_t per_word = 32 / scheme_.bits;
    ASSIGN_OR_RETURN(const SafetensorsEntry* codes,
                     Named(".weight_packed", kWords, {{rows(), CeilDiv(k(), per_word)}}));
    RETURN_IF_ERROR(CheckWeightShape());
    RETURN_IF_ERROR(ScalesByRow(".weight_scale", kScaleTypes));
    parts_.zeros.add = 1 << (scheme_.bits - 1);
    if (!scheme_.symmetric) {
      const int64_t stride = scheme_.per_tensor ? 1 : num_groups_;
      ASSIGN_OR_RETURN(const SafetensorsEntry* zeros,
                       Named(".weight_zero_point", kWords,
                             {{scheme_.per_tensor ? 1 : CeilDiv(rows(), per_word), stride}}));
      if (scheme_.per_tensor || scheme_.block_rows > 0) {
        return absl::UnimplementedError(
            absl::StrCat(Where(zeros),
                         ": packed zero points of a tensor or a block are not "
                         "supported"));
      }
      parts_.zeros = {
          .data = Bytes(zeros), .bits = scheme_.bits, .row_stride = stride, .group_stride = 1};
    }
    SetCenter();
    RETURN_IF_ERROR(ColumnOrder(".weight_g_idx"));
    parts_.codes = Bytes(codes);
    return MakePackedRows(std::move(parts_));
  }

  absl::StatusOr<std::shared_ptr<const QuantizedRows>> Int8() {
    ASSIGN_OR_RETURN(const SafetensorsEntry* codes,
                     Named(".weight", kSignedBytes, {{rows(), k()}}));
    RETURN_IF_ERROR(ScalesByRow(".weight_scale", kScaleTypes));
    parts_.form.bits = 8;
    parts_.zeros.add = 128;
    if (!scheme_.symmetric) {
      ASSIGN_OR_RETURN(const SafetensorsEntry* zeros,
                       Named(".weight_zero_point", kSignedBytes, ScaleShapes()));
      parts_.zeros = {.data = Bytes(zeros),
                      .block_rows = parts_.scales.block_rows,
                      .row_stride = parts_.scales.row_stride,
                      .group_stride = parts_.scales.group_stride,
                      .add = 128};
    }
    SetCenter();
    parts_.codes = Bytes(codes);
    return MakeByteRows(std::move(parts_), 0x80);
  }

  absl::StatusOr<std::shared_ptr<const QuantizedRows>> Float8() {
    ASSIGN_OR_RETURN(const SafetensorsEntry* codes, Named(".weight", kFloat8, {{rows(), k()}}));
    const bool inverse = files_->Find(absl::StrCat(layer_, ".weight_scale_inv")) != nullptr;
    RETURN_IF_ERROR(
        ScalesByRow(inverse ? ".weight_scale_inv" : ".weight_scale", kFloat8ScaleTypes));
    parts_.form.book = Float8Book();
    parts_.codes = Bytes(codes);
    return MakeByteRows(std::move(parts_), 0);
  }

  absl::StatusOr<std::shared_ptr<const QuantizedRows>> Mxfp4(int64_t num_experts, int64_t expert) {
    if (k() % 32 != 0) return Uneven(32);
    ASSIGN_OR_RETURN(const SafetensorsEntry* codes,
                     Named("_blocks", kBytes, {{num_experts, rows(), k() / 32, 16}}));
    ASSIGN_OR_RETURN(const SafetensorsEntry* scales,
                     Named("_scales", kBytes, {{num_experts, rows(), k() / 32}}));
    parts_.form.book = Float4Book();
    parts_.scales = {.data = Bytes(scales) + expert * rows() * (k() / 32),
                     .dtype = DType::kFloat8E8M0,
                     .row_stride = k() / 32,
                     .group_stride = 1};
    parts_.codes = Bytes(codes) + expert * rows() * (k() / 2);
    return MakeNibbleRows(std::move(parts_));
  }

 private:
  int64_t rows() const { return parts_.rows; }
  int64_t k() const { return parts_.k; }

  std::string Where(const SafetensorsEntry* entry) const { return files_->paths()[entry->file]; }

  absl::Status Uneven(int64_t unit) const {
    return absl::InvalidArgumentError(absl::StrCat("layer \"", layer_, "\" of shape [", rows(),
                                                   ", ", k(), "] is not a multiple of ", unit,
                                                   ", which its quantised form asks for"));
  }

  absl::StatusOr<const SafetensorsEntry*> Named(std::string_view suffix,
                                                absl::Span<const DType> dtypes,
                                                const std::vector<Shape>& shapes) const {
    const std::string name = absl::StrCat(layer_, ToAbsl(suffix));
    const SafetensorsEntry* entry = files_->Find(name);
    std::string expected;
    for (const Shape& shape : shapes) {
      absl::StrAppend(&expected, expected.empty() ? "[" : " or [", absl::StrJoin(shape, ", "), "]");
    }
    if (entry == nullptr) {
      return absl::NotFoundError(absl::StrCat(absl::StrJoin(files_->paths(), ", "), ": tensor \"",
                                              name, "\" is missing, expected with shape ",
                                              expected));
    }
    if (std::find(dtypes.begin(), dtypes.end(), entry->dtype) == dtypes.end()) {
      return absl::InvalidArgumentError(absl::StrCat(Where(entry), ": tensor \"", name, "\" is ",
                                                     ToAbsl(DTypeName(entry->dtype)), ", expected ",
                                                     ToAbsl(DTypeName(dtypes.front()))));
    }
    if (std::find(shapes.begin(), shapes.end(), entry->shape) == shapes.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(Where(entry), ": tensor \"", name, "\" has shape [",
                       absl::StrJoin(entry->shape, ", "), "], config.json asks for ", expected));
    }
    return entry;
  }

  /// .scales [num_groups, rows]
  absl::Status ScalesByGroup() {
    ASSIGN_OR_RETURN(const SafetensorsEntry* scales,
                     Named(".scales", kScaleTypes, {{num_groups_, rows()}}));
    parts_.scales = {
        .data = Bytes(scales), .dtype = scales->dtype, .row_stride = 1, .group_stride = rows()};
    return absl::OkStatus();
  }

  std::vector<Shape> ScaleShapes() const {
    if (scheme_.per_tensor) return {{1}, {}, {1, 1}};
    if (scheme_.block_rows > 0) return {{CeilDiv(rows(), scheme_.block_rows), num_groups_}};
    if (scheme_.group == 0) return {{rows(), 1}, {rows()}};
    return {{rows(), num_groups_}};
  }

  /// [rows or their blocks, num_groups], or one for all
  absl::Status ScalesByRow(std::string_view suffix, absl::Span<const DType> dtypes) {
    ASSIGN_OR_RETURN(const SafetensorsEntry* scales, Named(suffix, dtypes, ScaleShapes()));
    parts_.scales = {.data = Bytes(scales), .dtype = scales->dtype};
    if (!scheme_.per_tensor) {
      parts_.scales.block_rows = std::max<int64_t>(1, scheme_.block_rows);
      parts_.scales.row_stride = num_groups_;
      parts_.scales.group_stride = 1;
    }
    return absl::OkStatus();
  }

  /// Where all zero points are one number it is the center; else they become offsets.
  void SetCenter() {
    QuantizedForm& form = parts_.form;
    const ZeroGrid& zeros = parts_.zeros;
    form.center = zeros.At(0, 0);
    for (int64_t r = 0; zeros.data != nullptr && r < rows() && !form.has_offset; ++r) {
      for (int64_t g = 0; g < num_groups_; ++g) form.has_offset |= zeros.At(r, g) != form.center;
    }
    if (form.has_offset) form.center = 1 << (form.bits - 1);
  }

  /// Sorts columns by their group where the file says that they are not in order.
  absl::Status ColumnOrder(std::string_view suffix) {
    const std::string name = absl::StrCat(layer_, ToAbsl(suffix));
    if (files_->Find(name) == nullptr) return absl::OkStatus();
    ASSIGN_OR_RETURN(const SafetensorsEntry* entry, Named(suffix, kWords, {{k()}}));
    std::vector<int32_t> groups(k());
    std::memcpy(groups.data(), Bytes(entry), groups.size() * sizeof(int32_t));
    for (int64_t c = 0; c < k(); ++c) {
      if (groups[c] < 0 || groups[c] >= num_groups_) {
        return absl::InvalidArgumentError(absl::StrCat(Where(entry), ": tensor \"", name,
                                                       "\": element ", c, " is ", groups[c],
                                                       ", expected 0 to ", num_groups_ - 1));
      }
    }
    std::vector<int32_t> order(k());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return groups[a] < groups[b]; });
    for (int64_t c = 0; c < k(); ++c) {
      if (groups[order[c]] != c / parts_.form.group) {
        return absl::InvalidArgumentError(
            absl::StrCat(Where(entry), ": tensor \"", name, "\": group ", c / parts_.form.group,
                         " has fewer than ", parts_.form.group, " columns"));
      }
    }
    if (!std::is_sorted(order.begin(), order.end())) parts_.form.column_order = std::move(order);
    return absl::OkStatus();
  }

  absl::Status CheckWeightShape() const {
    constexpr DType kTypes[] = {DType::kInt64, DType::kInt32};
    ASSIGN_OR_RETURN(const SafetensorsEntry* entry, Named(".weight_shape", kTypes, {{2}}));
    int64_t shape[2];
    for (int i = 0; i < 2; ++i) {
      if (entry->dtype == DType::kInt64) {
        std::memcpy(&shape[i], Bytes(entry) + i * 8, 8);
      } else {
        int32_t dim;
        std::memcpy(&dim, Bytes(entry) + i * 4, 4);
        shape[i] = dim;
      }
    }
    if (shape[0] == rows() && shape[1] == k()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(Where(entry), ": tensor \"", layer_, ".weight_shape\" holds [", shape[0], ", ",
                     shape[1], "], config.json asks for [", rows(), ", ", k(), "]"));
  }

  const std::shared_ptr<const Safetensors>& files_;
  const std::string& layer_;
  const QuantScheme& scheme_;
  CheckpointParts parts_;
  int64_t num_groups_;
};

/// The tensor that says that a layer is quantised, null where it is not, and what forms have it.
const SafetensorsEntry* QuantizedTensor(const Safetensors& files, const std::string& layer,
                                        bool stacked, std::string& name,
                                        std::vector<CodeStorage>& storages) {
  const auto find = [&](std::string_view suffix) {
    name = absl::StrCat(layer, ToAbsl(suffix));
    return files.Find(name);
  };
  if (stacked) {
    storages = {CodeStorage::kMxfp4};
    return find("_blocks");
  }
  storages = {CodeStorage::kGptq, CodeStorage::kAwq};
  if (const auto* entry = find(".qweight"); entry != nullptr) return entry;
  storages = {CodeStorage::kPacked};
  if (const auto* entry = find(".weight_packed"); entry != nullptr) return entry;
  const SafetensorsEntry* entry = find(".weight");
  if (entry == nullptr) return nullptr;
  storages = {entry->dtype == DType::kInt8 ? CodeStorage::kInt8 : CodeStorage::kFloat8};
  return entry->dtype == DType::kInt8 || entry->dtype == DType::kFloat8E4M3 ? entry : nullptr;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const QuantizedRows>> FindQuantized(
    const std::shared_ptr<const Safetensors>& files, const QuantizationConfig& config,
    const std::string& layer, absl::Span<const int64_t> shape, int64_t expert) {
  std::string name;
  std::vector<CodeStorage> storages;
  const SafetensorsEntry* entry = QuantizedTensor(*files, layer, expert >= 0, name, storages);
  if (entry == nullptr) return nullptr;
  const std::string& path = files->paths()[entry->file];
  if (config.method.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": tensor \"", name, "\" is quantised, but config.json has no quantization_config"));
  }
  ASSIGN_OR_RETURN(const QuantScheme* scheme, config.SchemeOf(layer));
  if (scheme == nullptr ||
      std::find(storages.begin(), storages.end(), scheme->storage) == storages.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": tensor \"", name, "\" is not what quantization_config (",
                     config.method, ") says of layer \"", layer, "\""));
  }
  const size_t n = shape.size();
  if (shape[n - 1] < 1 || shape[n - 2] < 1 || (expert >= 0 && expert >= shape[0])) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": layer \"", layer, "\" has no weights"));
  }
  LayerTensors tensors(files, layer, *scheme, shape[n - 2], shape[n - 1]);
  switch (scheme->storage) {
    case CodeStorage::kGptq:
      return tensors.Gptq();
    case CodeStorage::kAwq:
      return tensors.Awq();
    case CodeStorage::kPacked:
      return tensors.Packed();
    case CodeStorage::kInt8:
      return tensors.Int8();
    case CodeStorage::kFloat8:
      return tensors.Float8();
    case CodeStorage::kMxfp4:
      return tensors.Mxfp4(shape[0], expert);
  }
  return nullptr;
}

}  // namespace penstock
