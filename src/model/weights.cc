#include "model/weights.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/half.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

float ElementAsFloat(const HostTensor& t, int64_t i) {
  const char* p = static_cast<const char*>(t.data) + i * DTypeSize(t.dtype);
  if (t.dtype == DType::kFloat32) {
    float f;
    std::memcpy(&f, p, sizeof f);
    return f;
  }
  uint16_t h;
  std::memcpy(&h, p, sizeof h);
  return t.dtype == DType::kBFloat16 ? Bf16ToFloat(h) : Fp16ToFloat(h);
}

HostTensor Widened(const HostTensor& t) {
  int64_t size = 1;
  for (const int64_t dim : t.shape) size *= dim;
  auto values = std::make_shared<std::vector<float>>(size);
  for (int64_t i = 0; i < size; ++i) (*values)[i] = ElementAsFloat(t, i);
  return {DType::kFloat32, t.shape, values->data(), values};
}

WeightFormat FormatOf(DType dtype) {
  if (dtype == DType::kBFloat16) return WeightFormat::kBFloat16;
  return dtype == DType::kFloat16 ? WeightFormat::kFloat16 : WeightFormat::kFloat32;
}

struct Part {
  std::string name;  // without ".weight"
  int64_t rows;
};

class Loader {
 public:
  Loader(TensorSource& source, Device& device) : source_(source), device_(device) {}

  absl::StatusOr<DeviceBuffer> Vector(const std::string& name, int64_t size) {
    ASSIGN_OR_RETURN(const HostTensor tensor, source_.Get(name, {size}));
    const HostTensor wide = Widened(tensor);
    ASSIGN_OR_RETURN(DeviceBuffer buffer, device_.Allocate(size * sizeof(float)));
    device_.CopyToDevice(buffer.data(), wide.data, size * sizeof(float));
    return buffer;
  }

  /// The parts' rows in order, as one layer; in their own format where all have the same, else
  /// float32.
  absl::StatusOr<PackedLinear> Linear(absl::Span<const Part> parts, int64_t k, bool bias) {
    std::vector<HostTensor> weights;
    std::vector<HostTensor> biases;
    bool mixed = false;
    for (const Part& part : parts) {
      ASSIGN_OR_RETURN(HostTensor weight,
                       source_.Get(absl::StrCat(part.name, ".weight"), {part.rows, k}));
      weights.push_back(std::move(weight));
      mixed |= weights.back().dtype != weights.front().dtype;
      if (!bias) continue;
      ASSIGN_OR_RETURN(HostTensor values,
                       source_.Get(absl::StrCat(part.name, ".bias"), {part.rows}));
      biases.push_back(std::move(values));
    }
    if (mixed) {
      for (HostTensor& weight : weights) weight = Widened(weight);
    }
    std::vector<LinearPart> linear;
    for (size_t i = 0; i < parts.size(); ++i) {
      linear.push_back({weights[i].data, bias ? biases[i].data : nullptr,
                        bias ? biases[i].dtype : DType::kFloat32, parts[i].rows});
    }
    return device_.Pack(FormatOf(weights.front().dtype), k, linear);
  }

  absl::Status Embedding(const std::string& name, const ModelConfig& config, ModelWeights& out) {
    ASSIGN_OR_RETURN(const HostTensor table,
                     source_.Get(name, {config.vocab_size, config.hidden_size}));
    out.embedding = {const_cast<void*>(table.data), table.dtype, config.vocab_size,
                     config.hidden_size, config.hidden_size};
    if (device_.shares_host_memory()) {
      out.embedding_owner = table.owner;
      return absl::OkStatus();
    }
    const size_t bytes = size_t(config.vocab_size) * config.hidden_size * DTypeSize(table.dtype);
    ASSIGN_OR_RETURN(out.embedding_storage, device_.Allocate(bytes));
    device_.CopyToDevice(out.embedding_storage.data(), table.data, bytes);
    out.embedding.data = out.embedding_storage.data();
    return absl::OkStatus();
  }

 private:
  TensorSource& source_;
  Device& device_;
};

absl::StatusOr<LayerWeights> LoadLayer(const ModelConfig& c, const std::string& prefix,
                                       Loader& loader) {
  LayerWeights w;
  const std::string attention = prefix + "self_attn.";
  const std::string mlp = prefix + "mlp.";
  const int64_t q_size = int64_t{c.num_heads} * c.head_dim;
  const int64_t kv_size = int64_t{c.num_kv_heads} * c.head_dim;
  ASSIGN_OR_RETURN(w.input_norm, loader.Vector(prefix + "input_layernorm.weight", c.hidden_size));
  ASSIGN_OR_RETURN(w.post_norm,
                   loader.Vector(prefix + "post_attention_layernorm.weight", c.hidden_size));
  if (c.qk_norm) {
    ASSIGN_OR_RETURN(w.q_norm, loader.Vector(attention + "q_norm.weight", c.head_dim));
    ASSIGN_OR_RETURN(w.k_norm, loader.Vector(attention + "k_norm.weight", c.head_dim));
  }
  const Part qkv[] = {{attention + "q_proj", q_size},
                      {attention + "k_proj", kv_size},
                      {attention + "v_proj", kv_size}};
  ASSIGN_OR_RETURN(w.qkv, loader.Linear(qkv, c.hidden_size, c.qkv_bias));
  const Part o[] = {{attention + "o_proj", c.hidden_size}};
  ASSIGN_OR_RETURN(w.o, loader.Linear(o, q_size, c.o_bias));
  const Part gate_up[] = {{mlp + "gate_proj", c.intermediate_size},
                          {mlp + "up_proj", c.intermediate_size}};
  ASSIGN_OR_RETURN(w.gate_up, loader.Linear(gate_up, c.hidden_size, c.mlp_bias));
  const Part down[] = {{mlp + "down_proj", c.hidden_size}};
  ASSIGN_OR_RETURN(w.down, loader.Linear(down, c.intermediate_size, c.mlp_bias));
  return w;
}

}  // namespace

absl::StatusOr<ModelWeights> LoadWeights(const ModelConfig& config, TensorSource& source,
                                         Device& device, const LoadProgress& progress) {
  Loader loader(source, device);
  ModelWeights out;
  const auto total = static_cast<int64_t>(config.layers.size()) + 1;
  RETURN_IF_ERROR(loader.Embedding("model.embed_tokens.weight", config, out));
  for (size_t i = 0; i < config.layers.size(); ++i) {
    if (progress) progress("weights", static_cast<int64_t>(i), total);
    ASSIGN_OR_RETURN(LayerWeights layer,
                     LoadLayer(config, absl::StrCat("model.layers.", i, "."), loader));
    out.layers.push_back(std::move(layer));
  }
  if (progress) progress("weights", total - 1, total);
  ASSIGN_OR_RETURN(out.final_norm, loader.Vector("model.norm.weight", config.hidden_size));
  const Part head[] = {
      {config.tied_embeddings ? "model.embed_tokens" : "lm_head", config.vocab_size}};
  ASSIGN_OR_RETURN(out.lm_head, loader.Linear(head, config.hidden_size, false));
  if (progress) progress("weights", total, total);
  return out;
}

}  // namespace penstock
