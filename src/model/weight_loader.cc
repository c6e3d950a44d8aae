#include "model/weight_loader.h"

#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/host_tensor.h"
#include "model/sliced_columns.h"

namespace penstock {
namespace {

WeightFormat FormatOf(DType dtype) {
  if (dtype == DType::kBFloat16) return WeightFormat::kBFloat16;
  return dtype == DType::kFloat16 ? WeightFormat::kFloat16 : WeightFormat::kFloat32;
}

LinearPart PartOf(const HostLinear& weight, int64_t k) {
  LinearPart part;
  part.weight = weight.plain.data;
  part.format = FormatOf(weight.plain.dtype);
  part.codes = weight.codes.get();
  part.integer_input =
      weight.integer_input && weight.codes != nullptr && TakesIntegerInput(weight.codes->form(), k);
  return part;
}

}  // namespace

absl::StatusOr<std::vector<float>> WeightLoader::Floats(const std::string& name,
                                                        absl::Span<const int64_t> shape) {
  ASSIGN_OR_RETURN(const HostTensor tensor, source_.Get(name, shape));
  return Widen(tensor);
}

absl::StatusOr<DeviceBuffer> WeightLoader::ToDevice(absl::Span<const float> values) {
  ASSIGN_OR_RETURN(DeviceBuffer buffer, device_.Allocate(values.size() * sizeof(float)));
  device_.CopyToDevice(buffer.data(), values.data(), values.size() * sizeof(float));
  return buffer;
}

absl::StatusOr<DeviceBuffer> WeightLoader::Vector(const std::string& name, int64_t size) {
  ASSIGN_OR_RETURN(const std::vector<float> values, Floats(name, {size}));
  return ToDevice(values);
}

absl::StatusOr<NormWeights> WeightLoader::Norm(const std::string& name, NormType type,
                                               int64_t size) {
  NormWeights norm;
  std::vector<float> weight(size, 1.0f);
  if (type != NormType::kLayerPlain) {
    ASSIGN_OR_RETURN(weight, Floats(absl::StrCat(name, ".weight"), {size}));
  }
  if (type == NormType::kRmsPlusOne || type == NormType::kLayerPlusOne) {
    for (float& w : weight) w += 1.0f;
  }
  ASSIGN_OR_RETURN(norm.weight, ToDevice(weight));
  if (type == NormType::kLayer || type == NormType::kLayerPlusOne) {
    ASSIGN_OR_RETURN(norm.bias, Vector(absl::StrCat(name, ".bias"), size));
  }
  return norm;
}

absl::StatusOr<PackedLinear> WeightLoader::Linear(absl::Span<const RowsOf> parts, int64_t k,
                                                  bool bias) {
  std::vector<HostLinear> weights;
  std::vector<HostTensor> biases;
  for (const RowsOf& part : parts) {
    const int64_t rows = part.tensor_rows > 0 ? part.tensor_rows : part.rows;
    const int64_t all = part.tensor_k > 0 ? part.tensor_k : k;
    HostLinear weight;
    if (part.transposed && source_.keeps_in_out_order()) {
      ASSIGN_OR_RETURN(const HostTensor stored,
                       source_.Get(absl::StrCat(part.name, ".weight"), {all, rows}));
      weight.plain = Transposed(SliceRows(stored, part.k_begin, k));
    } else {
      ASSIGN_OR_RETURN(weight, source_.FindLinear(part.name, {rows, all}));
      if (all > k) {
        ASSIGN_OR_RETURN(weight, SliceColumns(weight, part.k_begin, k, part.name));
      }
    }
    weights.push_back(std::move(weight));
    if (!bias) continue;
    ASSIGN_OR_RETURN(
        HostTensor values,
        source_.Get(absl::StrCat(part.bias_of.empty() ? part.name : part.bias_of, ".bias"),
                    {rows}));
    biases.push_back(std::move(values));
  }
  std::vector<LinearPart> linear;
  for (size_t i = 0; i < parts.size(); ++i) {
    LinearPart part = PartOf(weights[i], k);
    part.bias = bias ? biases[i].data : nullptr;
    part.bias_dtype = bias ? biases[i].dtype : DType::kFloat32;
    part.rows = parts[i].rows;
    part.order = parts[i].order;
    linear.push_back(part);
  }
  return device_.Pack(k, linear);
}

absl::StatusOr<PackedLinear> WeightLoader::LinearOf(const HostLinear& weight, int64_t k,
                                                    absl::Span<const int32_t> order,
                                                    absl::Span<const float> bias) {
  LinearPart part = PartOf(weight, k);
  part.rows = !order.empty()            ? static_cast<int64_t>(order.size())
              : weight.codes != nullptr ? weight.codes->rows()
                                        : weight.plain.shape[0];
  part.order = order;
  if (!bias.empty()) part.bias = bias.data();
  return device_.Pack(k, {part});
}

absl::StatusOr<HostTensor> WeightLoader::Numbers(const std::string& name, int64_t rows, int64_t k) {
  ASSIGN_OR_RETURN(const HostLinear linear, source_.FindLinear(name, {rows, k}));
  if (linear.codes == nullptr) return linear.plain;
  auto values = std::make_shared<std::vector<float>>(rows * k);
  Dequantize(*linear.codes, 0, rows, values->data());
  return HostTensor{DType::kFloat32, {rows, k}, values->data(), values};
}

absl::StatusOr<Tensor> WeightLoader::Table(const std::string& name, int64_t rows, int64_t cols,
                                           ModelWeights& out) {
  ASSIGN_OR_RETURN(const HostTensor table, source_.Get(name, {rows, cols}));
  return View(table, out);
}

absl::Status WeightLoader::Embedding(const std::string& name, const ModelConfig& config,
                                     const ModelShard& shard, ModelWeights& out) {
  ASSIGN_OR_RETURN(const HostLinear table,
                   source_.FindLinear(name, {config.vocab_size, config.hidden_size}));
  const auto [begin, rows] = VocabularyOf(config, shard);
  out.vocab_begin = begin;
  if (table.codes == nullptr) {
    ASSIGN_OR_RETURN(out.embedding, View(SliceRows(table.plain, begin, rows), out));
  } else if (!config.tied_embeddings) {
    const std::vector<int32_t> order =
        shard.whole() ? std::vector<int32_t>() : Ascending(begin, rows);
    ASSIGN_OR_RETURN(out.packed_embedding, LinearOf(table, config.hidden_size, order, {}));
  }
  return absl::OkStatus();
}

absl::StatusOr<Tensor> WeightLoader::View(const HostTensor& table, ModelWeights& out) {
  const int64_t rows = table.shape[0];
  const int64_t cols = table.shape[1];
  Tensor view{const_cast<void*>(table.data), table.dtype, rows, cols, cols};
  if (device_.shares_host_memory()) {
    out.owners.push_back(table.owner);
    return view;
  }
  const size_t bytes = rows * cols * DTypeSize(table.dtype);
  ASSIGN_OR_RETURN(DeviceBuffer storage, device_.Allocate(bytes));
  device_.CopyToDevice(storage.data(), table.data, bytes);
  view.data = storage.data();
  out.tables.push_back(std::move(storage));
  return view;
}

}  // namespace penstock
