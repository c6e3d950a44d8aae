#include "model/gguf_source.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {

/// Rows of one tensor, or of two in turn, in the order of the hub's checkpoint.
struct GgufSource::Matrix {
  GgmlType type = GgmlType::kF32;
  const std::byte* data = nullptr;
  const std::byte* odd_rows = nullptr;  // null: all rows lie at `data`
  int64_t rows = 0;
  int64_t k = 0;
  int64_t row_bytes = 0;
  int64_t turned_dim = 0;  // rows of a head whose halves the file interleaves; 0: as they are
  bool minus_one = false;

  bool in_order() const { return odd_rows == nullptr && turned_dim == 0; }

  const std::byte* Row(int64_t r) const {
    if (odd_rows != nullptr) return (r % 2 == 0 ? data : odd_rows) + r / 2 * row_bytes;
    if (turned_dim == 0) return data + r * row_bytes;
    const int64_t within = r % turned_dim;
    const int64_t half = turned_dim / 2;
    const int64_t from = within < half ? 2 * within : 2 * (within - half) + 1;
    return data + (r - within + from) * row_bytes;
  }
};

namespace {

std::vector<float> GgmlBook(absl::Span<const float> book) { return {book.begin(), book.end()}; }

/// Codes decoded from the mapping when they are read.
template <class M>
class GgufCodes final : public QuantizedRows {
 public:
  GgufCodes(const M& matrix, const GgmlForm& form, std::shared_ptr<const Gguf> file)
      : QuantizedRows(matrix.rows, matrix.k,
                      QuantizedForm{.bits = form.bits,
                                    .group = form.group,
                                    .center = form.center,
                                    .has_offset = form.has_offset,
                                    .book = GgmlBook(form.book),
                                    .column_order = {}}),
        matrix_(matrix),
        file_(std::move(file)) {}

  void Read(int64_t begin, int64_t num_rows, uint8_t* codes, float* scales,
            float* offsets) const override {
    const int64_t groups = num_groups();
    for (int64_t i = 0; i < num_rows; ++i) {
      DecodeGgmlRows(matrix_.type, matrix_.Row(begin + i), 1, matrix_.k,
                     {codes != nullptr ? codes + i * matrix_.k : nullptr,
                      scales != nullptr ? scales + i * groups : nullptr,
                      offsets != nullptr ? offsets + i * groups : nullptr});
    }
  }

 private:
  M matrix_;
  std::shared_ptr<const Gguf> file_;
};

absl::Span<const int64_t> WithoutLeadingOnes(absl::Span<const int64_t> shape) {
  while (shape.size() > 1 && shape[0] == 1) shape.remove_prefix(1);
  return shape;
}

/// Row r, column c of `tensor`'s matrix i goes to out[i][c][r * step + first], out [.., k, n].
void ScatterTransposed(const GgufTensor& tensor, int64_t rows, int64_t k, int64_t step,
                       int64_t first, float* out) {
  int64_t matrices = 1;
  for (size_t i = 0; i + 2 < tensor.shape.size(); ++i) matrices *= tensor.shape[i];
  const int64_t row_bytes = GgmlRowBytes(tensor.type, k);
  std::vector<float> row(k);
  for (int64_t i = 0; i < matrices * rows; ++i) {
    DequantizeGgmlRows(tensor.type, tensor.data.data() + i * row_bytes, 1, k, row.data());
    float* to = out + i / rows * k * rows * step + i % rows * step + first;
    for (int64_t c = 0; c < k; ++c) to[c * rows * step] = row[c];
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<GgufSource>> GgufSource::Make(std::shared_ptr<const Gguf> file) {
  ASSIGN_OR_RETURN(const GgufArchitecture arch, ArchitectureOf(*file));
  int64_t heads[2] = {0, 0};
  if (arch.turned) {
    const std::string key = absl::StrCat(ToAbsl(arch.name), ".attention.head_count");
    ASSIGN_OR_RETURN(const std::optional<int64_t> all, file->Int(key));
    ASSIGN_OR_RETURN(const std::optional<int64_t> kv, file->Int(key + "_kv"));
    heads[0] = all.value_or(0);
    heads[1] = kv.value_or(heads[0]);
    if (heads[0] < 1 || heads[1] < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(file->paths().front(), ": ", key, " and _kv: expected at least 1"));
    }
  }
  return std::unique_ptr<GgufSource>(new GgufSource(std::move(file), arch, heads[0], heads[1]));
}

GgufSource::~GgufSource() { file_->DropPages(); }

absl::Status GgufSource::Problem(const GgufTensor* tensor, const std::string& name,
                                 const std::string& problem) const {
  const std::string& path = file_->paths()[tensor != nullptr ? tensor->file : 0];
  return absl::InvalidArgumentError(absl::StrCat(path, ": tensor \"", name, "\" ", problem));
}

bool GgufSource::Has(const std::string& name) const {
  if (const auto stack = GgufStackOf(arch_, name)) {
    return file_->FindTensor(stack->tensors[0]) != nullptr;
  }
  const std::optional<GgufName> found = GgufNameOf(arch_, name);
  return found && (file_->FindTensor(found->tensor) != nullptr ||
                   (found->expert >= 0 && file_->FindTensor(found->unstacked) != nullptr));
}

absl::StatusOr<const GgufTensor*> GgufSource::Tensor(const std::string& name,
                                                     absl::Span<const int64_t> shape) const {
  const GgufTensor* tensor = file_->FindTensor(name);
  if (tensor == nullptr) {
    return absl::NotFoundError(absl::StrCat(file_->paths().front(), ": tensor \"", name,
                                            "\" is missing, expected with shape [",
                                            absl::StrJoin(shape, ", "), "]"));
  }
  if (WithoutLeadingOnes(tensor->shape) != WithoutLeadingOnes(shape)) {
    return Problem(tensor, name,
                   absl::StrCat("has shape [", absl::StrJoin(tensor->shape, ", "),
                                "], the metadata asks for [", absl::StrJoin(shape, ", "), "]"));
  }
  if (!IsDecodedGgmlType(tensor->type)) {
    const std::string_view type = FindGgmlType(static_cast<uint32_t>(tensor->type))->name;
    return absl::UnimplementedError(absl::StrCat(file_->paths()[tensor->file], ": tensor \"", name,
                                                 "\" is ", ToAbsl(type), ", which is not one of ",
                                                 ToAbsl(DecodedGgmlTypes())));
  }
  return tensor;
}

absl::StatusOr<GgufSource::Matrix> GgufSource::Locate(const std::string& name,
                                                      absl::Span<const int64_t> shape) const {
  const std::optional<GgufName> found = GgufNameOf(arch_, name);
  if (!found || shape.empty()) {
    return absl::NotFoundError(absl::StrCat(file_->paths().front(),
                                            ": no tensor of a GGUF file of ", ToAbsl(arch_.name),
                                            " is \"", name, "\""));
  }
  std::string tensor_name = found->tensor;
  std::vector<int64_t> expected(shape.begin(), shape.end());
  const GgufTensor* stack = found->expert >= 0 ? file_->FindTensor(tensor_name) : nullptr;
  if (stack != nullptr) {
    if (found->expert >= stack->shape[0]) {
      return Problem(stack, tensor_name,
                     absl::StrCat("has ", stack->shape[0], " experts, no expert ", found->expert));
    }
    expected.insert(expected.begin(), stack->shape[0]);
  } else if (found->expert >= 0 && file_->FindTensor(found->unstacked) != nullptr) {
    tensor_name = found->unstacked;
  }
  ASSIGN_OR_RETURN(const GgufTensor* tensor, Tensor(tensor_name, expected));
  Matrix m{.type = tensor->type, .data = tensor->data.data(), .rows = 1, .k = shape.back()};
  for (size_t i = 0; i + 1 < shape.size(); ++i) m.rows *= shape[i];
  m.minus_one = arch_.norms_plus_one && absl::EndsWith(name, "norm.weight");
  if (found->heads != GgufHeads::kNone) {
    const int64_t heads = found->heads == GgufHeads::kQuery ? num_heads_ : num_kv_heads_;
    if (shape.size() == 1) std::swap(m.rows, m.k);  // a bias: numbers, one a row
    if (m.rows % (2 * heads) != 0 || (m.k == 1 && !PlainGgmlType(m.type))) {
      return Problem(tensor, tensor_name,
                     absl::StrCat("has ", m.rows, " rows, expected an even number for each of ",
                                  heads, " heads"));
    }
    m.turned_dim = m.rows / heads;
  }
  m.row_bytes = GgmlRowBytes(m.type, m.k);
  if (stack != nullptr) m.data += found->expert * m.rows * m.row_bytes;
  return m;
}

HostTensor GgufSource::Plain(const Matrix& m, absl::Span<const int64_t> shape) const {
  HostTensor out;
  out.shape.assign(shape.begin(), shape.end());
  const std::optional<DType> plain = PlainGgmlType(m.type);
  if (plain && m.in_order() && !m.minus_one) {
    out.dtype = *plain;
    out.data = m.data;
    out.owner = file_;
    return out;
  }
  if (plain && !m.minus_one) {
    auto bytes = std::make_shared<std::vector<std::byte>>(m.rows * m.row_bytes);
    for (int64_t r = 0; r < m.rows; ++r) {
      std::memcpy(bytes->data() + r * m.row_bytes, m.Row(r), m.row_bytes);
    }
    out.dtype = *plain;
    out.data = bytes->data();
    out.owner = bytes;
    return out;
  }
  auto values = std::make_shared<std::vector<float>>(m.rows * m.k);
  for (int64_t r = 0; r < m.rows; ++r) {
    DequantizeGgmlRows(m.type, m.Row(r), 1, m.k, values->data() + r * m.k);
  }
  if (m.minus_one) {
    for (float& value : *values) value -= 1.0f;
  }
  out.data = values->data();
  out.owner = values;
  return out;
}

/// [num_experts, k, n * num_tensors] or, of a bias, [num_experts, n * num_tensors] as float32.
absl::StatusOr<HostTensor> GgufSource::Stacked(const GgufStack& stack,
                                               absl::Span<const int64_t> shape) const {
  const int64_t step = stack.num_tensors;
  if (shape.size() != (stack.bias ? 2 : 3) || shape.back() % step != 0) {
    return Problem(nullptr, stack.tensors[0],
                   absl::StrCat("cannot have shape [", absl::StrJoin(shape, ", "), "]"));
  }
  const int64_t rows = shape.back() / step;
  const int64_t k = stack.bias ? 1 : shape[1];
  std::vector<int64_t> expected = {shape[0], rows};
  if (!stack.bias) expected.push_back(k);
  auto values = std::make_shared<std::vector<float>>();
  for (int32_t i = 0; i < stack.num_tensors; ++i) {
    ASSIGN_OR_RETURN(const GgufTensor* tensor, Tensor(stack.tensors[i], expected));
    if (stack.bias && !PlainGgmlType(tensor->type)) {
      return Problem(tensor, stack.tensors[i], "is a quantised bias, expected F32, F16 or BF16");
    }
    values->resize(shape[0] * rows * k * step);
    if (stack.bias) {  // rows of one number each
      GgufTensor column = *tensor;
      column.shape.push_back(1);
      ScatterTransposed(column, rows, 1, step, i, values->data());
    } else {
      ScatterTransposed(*tensor, rows, k, step, i, values->data());
    }
  }
  return HostTensor{DType::kFloat32, {shape.begin(), shape.end()}, values->data(), values};
}

absl::StatusOr<HostTensor> GgufSource::Get(const std::string& name,
                                           absl::Span<const int64_t> shape) {
  if (const auto stack = GgufStackOf(arch_, name)) return Stacked(*stack, shape);
  ASSIGN_OR_RETURN(const Matrix matrix, Locate(name, shape));
  return Plain(matrix, shape);
}

absl::StatusOr<HostLinear> GgufSource::FindLinear(const std::string& name,
                                                  absl::Span<const int64_t> shape, int64_t expert) {
  Matrix m;
  if (expert < 0) {
    ASSIGN_OR_RETURN(m, Locate(absl::StrCat(name, ".weight"), shape));
  } else {
    const auto stack = GgufStackOf(arch_, name);
    if (!stack || stack->bias || shape.size() != 3 || expert >= shape[0] ||
        shape[1] % stack->num_tensors != 0) {
      return absl::NotFoundError(absl::StrCat(file_->paths().front(), ": no stack of experts \"",
                                              name, "\" of shape [", absl::StrJoin(shape, ", "),
                                              "] with expert ", expert));
    }
    const int64_t rows = shape[1] / stack->num_tensors;
    const std::vector<int64_t> expected = {shape[0], rows, shape[2]};
    ASSIGN_OR_RETURN(const GgufTensor* first, Tensor(stack->tensors[0], expected));
    m = {.type = first->type, .data = first->data.data(), .rows = shape[1], .k = shape[2]};
    m.row_bytes = GgmlRowBytes(m.type, m.k);
    const int64_t skipped = expert * rows * m.row_bytes;
    m.data += skipped;
    if (stack->num_tensors == 2) {
      ASSIGN_OR_RETURN(const GgufTensor* second, Tensor(stack->tensors[1], expected));
      if (second->type != first->type) {
        return Problem(second, stack->tensors[1],
                       absl::StrCat("is of another type than \"", stack->tensors[0], "\""));
      }
      m.odd_rows = second->data.data() + skipped;
    }
  }
  HostLinear out;
  if (const std::optional<GgmlForm> form = GgmlFormOf(m.type)) {
    out.codes = std::make_shared<GgufCodes<Matrix>>(m, *form, file_);
  } else {
    out.plain = Plain(m, {m.rows, m.k});
  }
  return out;
}

}  // namespace penstock
