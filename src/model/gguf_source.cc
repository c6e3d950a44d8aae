#include "model/gguf_source.h"

#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "model/host_tensor.h"

namespace penstock {

namespace {

constexpr int64_t kMaxGgufHeads = 1 << 24;  // and dimensions of a head

/// The same rows, however many dimensions of 1 stand before them.
bool SameShape(absl::Span<const int64_t> a, absl::Span<const int64_t> b) {
  const auto without_ones = [](absl::Span<const int64_t> shape) {
    std::vector<int64_t> out;
    for (const int64_t dim : shape) {
      if (dim != 1) out.push_back(dim);
    }
    return out;
  };
  return a.back() == b.back() && without_ones(a) == without_ones(b);
}

}  // namespace

std::vector<StoredTensor> GgufSource::Stored() const {
  std::vector<StoredTensor> stored;
  for (const auto& [name, tensor] : file_->contents().tensors)
    stored.push_back({std::string(name), tensor.data, tensor.found});
  return stored;
}

absl::StatusOr<GgufSource::Heads> GgufSource::ReadHeads(const Gguf& file,
                                                        const GgufArchitecture& arch) {
  const auto number = [&](std::string_view key,
                          std::optional<int64_t> fallback) -> absl::StatusOr<int64_t> {
    const std::string name = absl::StrCat(ToAbsl(arch.name), ".", ToAbsl(key));
    ASSIGN_OR_RETURN(const std::optional<int64_t> value, file.Int(name));
    const int64_t found = value.value_or(fallback.value_or(0));
    if (found >= 1 && found <= kMaxGgufHeads) return found;
    return absl::InvalidArgumentError(
        absl::StrCat(file.paths().front(), ": ", name, ": expected 1 to ", kMaxGgufHeads));
  };
  Heads heads;
  if (arch.turned || arch.latent) {
    ASSIGN_OR_RETURN(heads.queries, number("attention.head_count", std::nullopt));
    ASSIGN_OR_RETURN(heads.keys, number("attention.head_count_kv", heads.queries));
  }
  if (arch.delta) {
    ASSIGN_OR_RETURN(heads.delta_keys, number("ssm.group_count", std::nullopt));
    ASSIGN_OR_RETURN(heads.delta_values, number("ssm.time_step_rank", std::nullopt));
    ASSIGN_OR_RETURN(heads.delta_key_dim, number("ssm.state_size", std::nullopt));
    ASSIGN_OR_RETURN(const int64_t inner, number("ssm.inner_size", std::nullopt));
    heads.delta_value_dim = inner / heads.delta_values;
  }
  return heads;
}

absl::StatusOr<std::unique_ptr<GgufSource>> GgufSource::Make(std::shared_ptr<const Gguf> file) {
  ASSIGN_OR_RETURN(const GgufArchitecture arch, ArchitectureOf(*file));
  ASSIGN_OR_RETURN(const Heads heads, ReadHeads(*file, arch));
  return std::unique_ptr<GgufSource>(new GgufSource(std::move(file), arch, heads));
}

GgufSource::~GgufSource() { file_->KeepForUse(); }

absl::Status GgufSource::Problem(const GgufTensor* tensor, const std::string& name,
                                 const std::string& problem) const {
  const std::string& path = file_->paths()[tensor != nullptr ? tensor->file : 0];
  return absl::InvalidArgumentError(absl::StrCat(path, ": tensor \"", name, "\" ", problem));
}

bool GgufSource::Has(const std::string& name) const {
  if (const auto stack = GgufStackOf(arch_, name)) {
    return stack->bias && file_->FindTensor(stack->tensors[0]) != nullptr;
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
  if (tensor->shape.empty() || shape.empty() || !SameShape(tensor->shape, shape)) {
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

absl::StatusOr<GgufRows> GgufSource::Locate(const std::string& name,
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
  GgufRows m{.type = tensor->type, .data = tensor->data.data(), .rows = 1, .k = shape.back()};
  for (size_t i = 0; i + 1 < shape.size(); ++i) m.rows *= shape[i];
  m.minus_one = arch_.norms_plus_one && absl::EndsWith(name, "norm.weight") &&
                !absl::EndsWith(name, "linear_attn.norm.weight");
  RETURN_IF_ERROR(SetOrder(tensor_name, found->order, shape.size() == 1, m));
  m.row_bytes = GgmlRowBytes(m.type, m.k);
  if (stack != nullptr) m.data += found->expert * m.rows * m.row_bytes;
  return m;
}

/// `vector`: the rows of a matrix with one number each, such as a bias.
absl::Status GgufSource::SetOrder(const std::string& tensor, GgufOrder order, bool vector,
                                  GgufRows& m) const {
  if (order == GgufOrder::kSame) return absl::OkStatus();
  if (vector) std::swap(m.rows, m.k);
  if (m.k == 1 && !PlainGgmlType(m.type)) {
    return Problem(file_->FindTensor(tensor), tensor, "expected F32, F16 or BF16");
  }
  if (order == GgufOrder::kQueryHeads || order == GgufOrder::kKeyHeads) {
    const int64_t heads = order == GgufOrder::kQueryHeads ? heads_.queries : heads_.keys;
    if (m.rows % (2 * heads) != 0) {
      return Problem(file_->FindTensor(tensor), tensor,
                     absl::StrCat("has ", m.rows, " rows, expected an even number for each of ",
                                  heads, " heads"));
    }
    m.turned_dim = m.rows / heads;
    return absl::OkStatus();
  }
  if (heads_.delta_values == heads_.delta_keys) return absl::OkStatus();
  TiledHeads tiled{.key_heads = heads_.delta_keys,
                   .per_key = heads_.delta_values / heads_.delta_keys,
                   .size = order == GgufOrder::kValues ? 1 : heads_.delta_value_dim};
  m.tiled_begin = order == GgufOrder::kMixedRows ? 2 * heads_.delta_keys * heads_.delta_key_dim : 0;
  const int64_t tiled_size = order == GgufOrder::kValueColumns ? m.k : m.rows - m.tiled_begin;
  if (tiled_size != tiled.key_heads * tiled.per_key * tiled.size) {
    return Problem(file_->FindTensor(tensor), tensor,
                   absl::StrCat("has ", tiled_size, " of its value heads, expected ",
                                heads_.delta_values, " times ", tiled.size));
  }
  (order == GgufOrder::kValueColumns ? m.tiled_columns : m.tiled_rows) = tiled;
  return absl::OkStatus();
}

/// [num_experts, n * num_tensors] as float32, the tensors' numbers in turn.
absl::StatusOr<HostTensor> GgufSource::StackedBias(const GgufStack& stack,
                                                   absl::Span<const int64_t> shape) const {
  const int64_t step = stack.num_tensors;
  if (shape.size() != 2 || shape[1] % step != 0) {
    return Problem(nullptr, stack.tensors[0],
                   absl::StrCat("cannot have shape [", absl::StrJoin(shape, ", "), "]"));
  }
  const int64_t k = shape[1] / step;
  auto values = std::make_shared<std::vector<float>>();
  for (int64_t i = 0; i < step; ++i) {
    ASSIGN_OR_RETURN(const GgufTensor* tensor, Tensor(stack.tensors[i], {shape[0], k}));
    std::vector<float> own(shape[0] * k);
    DequantizeGgmlRows(tensor->type, tensor->data.data(), shape[0], k, own.data());
    values->resize(own.size() * step);
    for (size_t c = 0; c < own.size(); ++c) (*values)[c * step + i] = own[c];
  }
  return HostTensor{DType::kFloat32, {shape.begin(), shape.end()}, values->data(), values};
}

/// [heads * (key dim + value dim), rank] as float32, each head's keys before its values.
absl::StatusOr<HostTensor> GgufSource::JoinedLatentUp(const GgufLatentUp& halves,
                                                      absl::Span<const int64_t> shape) const {
  const int64_t heads = heads_.queries;
  const int64_t rank = shape[1];
  const GgufTensor* found = file_->FindTensor(halves.values);
  const int64_t value_dim = found != nullptr && found->shape.size() == 3 ? found->shape[1] : 0;
  const int64_t key_dim = shape[0] / heads - value_dim;
  if (key_dim < 1) {
    return Problem(
        found, halves.values,
        absl::StrCat("expected [", heads, ", fewer than ", shape[0] / heads, ", ", rank, "]"));
  }
  ASSIGN_OR_RETURN(const GgufTensor* keys, Tensor(halves.keys, {heads, rank, key_dim}));
  ASSIGN_OR_RETURN(const GgufTensor* values, Tensor(halves.values, {heads, value_dim, rank}));
  auto out = std::make_shared<std::vector<float>>(shape[0] * rank);
  std::vector<float> key(rank * key_dim);  // of one head, transposed
  for (int64_t h = 0; h < heads; ++h) {
    float* to = out->data() + h * (key_dim + value_dim) * rank;
    DequantizeGgmlRows(keys->type, keys->data.data() + h * rank * GgmlRowBytes(keys->type, key_dim),
                       rank, key_dim, key.data());
    for (int64_t i = 0; i < key_dim; ++i) {
      for (int64_t r = 0; r < rank; ++r) to[i * rank + r] = key[r * key_dim + i];
    }
    DequantizeGgmlRows(values->type,
                       values->data.data() + h * value_dim * GgmlRowBytes(values->type, rank),
                       value_dim, rank, to + key_dim * rank);
  }
  return HostTensor{DType::kFloat32, {shape.begin(), shape.end()}, out->data(), out};
}

absl::StatusOr<HostTensor> GgufSource::Get(const std::string& name,
                                           absl::Span<const int64_t> shape) {
  const auto stack = GgufStackOf(arch_, name);
  if (stack && stack->bias) return StackedBias(*stack, shape);
  ASSIGN_OR_RETURN(const GgufRows rows, Locate(name, shape));
  const HostTensor tensor = GgufNumbers(rows, shape, file_);
  if (!absl::EndsWith(name, ".A_log")) return tensor;
  // The file holds what the network multiplies by.
  auto logs = std::make_shared<std::vector<float>>(Widen(tensor));
  for (float& value : *logs) {
    if (!(value < 0)) return Problem(nullptr, name, "expected negative numbers in the file");
    value = std::log(-value);
  }
  return HostTensor{DType::kFloat32, {shape.begin(), shape.end()}, logs->data(), logs};
}

absl::StatusOr<GgufRows> GgufSource::OfStack(const GgufStack& stack,
                                             absl::Span<const int64_t> shape,
                                             int64_t expert) const {
  const int64_t rows = shape[1] / stack.num_tensors;
  const std::vector<int64_t> expected = {shape[0], rows, shape[2]};
  ASSIGN_OR_RETURN(const GgufTensor* first, Tensor(stack.tensors[0], expected));
  GgufRows m{.type = first->type, .data = first->data.data(), .rows = shape[1], .k = shape[2]};
  m.row_bytes = GgmlRowBytes(m.type, m.k);
  const int64_t skipped = expert * rows * m.row_bytes;
  m.data += skipped;
  if (stack.num_tensors == 2) {
    ASSIGN_OR_RETURN(const GgufTensor* second, Tensor(stack.tensors[1], expected));
    if (second->type != first->type) {
      return Problem(second, stack.tensors[1],
                     absl::StrCat("is of another type than \"", stack.tensors[0], "\""));
    }
    m.odd_rows = second->data.data() + skipped;
  }
  return m;
}

absl::StatusOr<HostLinear> GgufSource::FindLinear(const std::string& name,
                                                  absl::Span<const int64_t> shape, int64_t expert) {
  HostLinear out;
  if (const auto halves = GgufLatentUpOf(name);
      halves && arch_.latent && shape.size() == 2 && file_->FindTensor(halves->keys) != nullptr) {
    ASSIGN_OR_RETURN(out.plain, JoinedLatentUp(*halves, shape));
    return out;
  }
  GgufRows m;
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
    ASSIGN_OR_RETURN(m, OfStack(*stack, shape, expert));
  }
  out.codes = GgufCodes(m, file_);
  if (out.codes == nullptr) out.plain = GgufNumbers(m, {m.rows, m.k}, file_);
  return out;
}

}  // namespace penstock
