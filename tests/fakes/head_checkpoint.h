// Tiny checkpoints of random weights that ship a prediction head, one of each layout.
// Owns its tensors. Must not know how heads are run.
// Threads: value.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "fakes/safetensors_writer.h"
#include "penstock/types.h"

namespace penstock {

/// kQwen is as its files but for layers of attention alone; kQwenDelta's first is recurrent.
enum class HeadKind : uint8_t { kDeepSeek, kGlm, kQwen, kQwenDelta };

inline std::string NameOf(HeadKind kind) {
  if (kind == HeadKind::kDeepSeek) return "DeepSeek";
  if (kind == HeadKind::kGlm) return "Glm";
  return kind == HeadKind::kQwen ? "Qwen" : "QwenDelta";
}

inline constexpr int32_t kHeadVocab = 61;
inline constexpr int32_t kHeadHidden = 48;

struct HeadTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

/// `layers` of them; the first is dense, or recurrent, where `dense`.
inline std::string HeadConfig(HeadKind kind, int32_t layers, bool dense) {
  std::string config =
      R"({"hidden_size": 48, "vocab_size": 61, "max_position_embeddings": 256, "rms_norm_eps": 1e-6,
      "num_hidden_layers": )" +
      std::to_string(layers) + R"(, "first_k_dense_replace": )" + (dense ? "1" : "0") +
      R"(, "tie_word_embeddings": false, "num_nextn_predict_layers": 1, )";
  if (kind == HeadKind::kDeepSeek) {
    return config + R"("architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
        "intermediate_size": 52, "num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": 20,
        "kv_lora_rank": 24, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 10,
        "moe_intermediate_size": 28, "n_group": 4, "topk_group": 2, "n_routed_experts": 8,
        "n_shared_experts": 2, "num_experts_per_tok": 3, "norm_topk_prob": true,
        "routed_scaling_factor": 2.5, "rope_theta": 10000.0})";
  }
  if (kind == HeadKind::kGlm) {
    return config + R"("architectures": ["Glm4MoeForCausalLM"], "model_type": "glm4_moe",
        "intermediate_size": 76, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 20,
        "attention_bias": true, "use_qk_norm": true, "partial_rotary_factor": 0.5,
        "moe_intermediate_size": 28, "n_group": 2, "topk_group": 1, "n_routed_experts": 8,
        "n_shared_experts": 1, "num_experts_per_tok": 2, "norm_topk_prob": true,
        "routed_scaling_factor": 1.5, "rope_theta": 10000.0})";
  }
  std::string types;
  for (int32_t i = 0; i < layers; ++i) {
    const bool recurrent = kind == HeadKind::kQwenDelta && dense && i == 0;
    types += std::string(i > 0 ? ", " : "") + (recurrent ? "\"linear" : "\"full") + "_attention\"";
  }
  return config + R"("architectures": ["Qwen3_5ForCausalLM"], "model_type": "qwen3_5_text",
      "intermediate_size": 76, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
      "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8,
      "linear_value_head_dim": 8, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
      "partial_rotary_factor": 0.25}, "layer_types": [)" +
         types + "]}";
}

class HeadCheckpoint {
 public:
  /// Two layers and the head.
  explicit HeadCheckpoint(HeadKind kind, uint32_t seed = 1) : kind_(kind), seed_(seed) {
    Add("model.embed_tokens.weight", {kHeadVocab, kHeadHidden});
    AddLayer("model.layers.0.", /*experts=*/false, kind == HeadKind::kQwenDelta);
    AddLayer("model.layers.1.", !is_qwen());
    AddNorm("model.norm", kHeadHidden);
    Add("lm_head.weight", {kHeadVocab, kHeadHidden});
    AddNorm(embedding_norm(), kHeadHidden);
    AddNorm(state_norm(), kHeadHidden);
    AddNorm(norm(), kHeadHidden);
    Add(projection() + ".weight", {kHeadHidden, 2 * kHeadHidden});
    AddLayer(block(), !is_qwen());
    if (is_qwen()) return;
    // As DeepSeek's files have them: the same again.
    tensors["model.layers.2.embed_tokens.weight"] = tensors.at("model.embed_tokens.weight");
    tensors["model.layers.2.shared_head.head.weight"] = tensors.at("lm_head.weight");
  }

  HeadKind kind() const { return kind_; }
  bool is_qwen() const { return kind_ == HeadKind::kQwen || kind_ == HeadKind::kQwenDelta; }
  bool plus_one() const { return is_qwen(); }
  std::string block() const { return Own("model.layers.2.", "mtp.layers.0."); }
  std::string embedding_norm() const {
    return Own("model.layers.2.enorm", "mtp.pre_fc_norm_embedding");
  }
  std::string state_norm() const { return Own("model.layers.2.hnorm", "mtp.pre_fc_norm_hidden"); }
  std::string projection() const { return Own("model.layers.2.eh_proj", "mtp.fc"); }
  std::string norm() const { return Own("model.layers.2.shared_head.norm", "mtp.norm"); }

  /// The next token follows from the last one alone, and the head knows how.
  void MakeHeadRight() {
    for (auto& [name, tensor] : tensors) {
      if (name.find("o_proj") != name.npos || name.find("out_proj") != name.npos ||
          name.find("down_proj") != name.npos)
        tensor.values.assign(tensor.values.size(), 0.0f);
    }
    std::vector<float>& projection_values = tensors.at(projection() + ".weight").values;
    projection_values.assign(projection_values.size(), 0.0f);
    for (int32_t i = 0; i < kHeadHidden; ++i) projection_values[i * 2 * kHeadHidden + i] = 1.0f;
    std::vector<float>& ones = tensors.at(embedding_norm() + ".weight").values;
    ones.assign(ones.size(), plus_one() ? 0.0f : 1.0f);
    tensors.at(norm() + ".weight") = tensors.at("model.norm.weight");
  }

  void Write(const TempDir& dir) const { Write(dir, HeadConfig(kind_, 2, true)); }
  void Write(const TempDir& dir, const std::string& config) const {
    std::vector<TensorToWrite> all;
    for (const auto& [name, tensor] : tensors)
      all.push_back({name, "F32", tensor.shape, BytesOf(tensor.values)});
    dir.Write("config.json", config);
    dir.Write("model.safetensors", SafetensorsFile(all));
  }

  std::map<std::string, HeadTensor> tensors;

 private:
  std::string Own(const char* numbered, const char* mtp) const {
    return is_qwen() ? mtp : numbered;
  }
  float Draw() {
    seed_ = seed_ * 1664525u + 1013904223u;
    return static_cast<float>(seed_ >> 8) / static_cast<float>(1 << 23) - 1.0f;
  }
  void Add(const std::string& name, std::vector<int64_t> shape) {
    HeadTensor& tensor = tensors[name];
    int64_t size = 1;
    for (const int64_t dim : shape) size *= dim;
    const float scale = std::sqrt(3.0f / static_cast<float>(shape.back()));
    for (int64_t i = 0; i < size; ++i) tensor.values.push_back(scale * Draw());
    tensor.shape = std::move(shape);
  }
  void AddNorm(const std::string& name, int64_t size, bool plus_one) {
    HeadTensor& tensor = tensors[name + ".weight"];
    tensor.shape = {size};
    for (int64_t i = 0; i < size; ++i)
      tensor.values.push_back((plus_one ? 0.0f : 1.0f) + Draw() / 8);
  }
  void AddNorm(const std::string& name, int64_t size) { AddNorm(name, size, plus_one()); }
  void AddLinear(const std::string& name, int64_t rows, int64_t k, bool bias = false) {
    Add(name + ".weight", {rows, k});
    if (bias) Add(name + ".bias", {rows});
  }
  void AddMlp(const std::string& prefix, int64_t inner) {
    AddLinear(prefix + "gate_proj", inner, kHeadHidden);
    AddLinear(prefix + "up_proj", inner, kHeadHidden);
    AddLinear(prefix + "down_proj", kHeadHidden, inner);
  }
  void AddHeads(const std::string& prefix, int64_t q, int64_t kv, int64_t out, int64_t dim) {
    const bool bias = kind_ == HeadKind::kGlm;
    AddLinear(prefix + "q_proj", q, kHeadHidden, bias);
    AddLinear(prefix + "k_proj", kv, kHeadHidden, bias);
    AddLinear(prefix + "v_proj", kv, kHeadHidden, bias);
    AddLinear(prefix + "o_proj", kHeadHidden, out);
    AddNorm(prefix + "q_norm", dim);
    AddNorm(prefix + "k_norm", dim);
  }
  void AddAttention(const std::string& prefix) {
    if (kind_ == HeadKind::kGlm) return AddHeads(prefix, 80, 40, 80, 20);
    if (is_qwen()) return AddHeads(prefix, 128, 32, 64, 16);
    AddLinear(prefix + "q_a_proj", 20, kHeadHidden);
    AddNorm(prefix + "q_a_layernorm", 20);
    AddLinear(prefix + "q_b_proj", 80, 20);
    AddLinear(prefix + "kv_a_proj_with_mqa", 32, kHeadHidden);
    AddNorm(prefix + "kv_a_layernorm", 24);
    AddLinear(prefix + "kv_b_proj", 88, 24);
    AddLinear(prefix + "o_proj", kHeadHidden, 40);
  }
  /// Heads of 8 dimensions, two of each kind.
  void AddDelta(const std::string& prefix) {
    AddLinear(prefix + "in_proj_qkv", 48, kHeadHidden);
    AddLinear(prefix + "in_proj_z", 16, kHeadHidden);
    AddLinear(prefix + "in_proj_b", 2, kHeadHidden);
    AddLinear(prefix + "in_proj_a", 2, kHeadHidden);
    Add(prefix + "conv1d.weight", {48, 1, 4});
    Add(prefix + "A_log", {2});
    Add(prefix + "dt_bias", {2});
    AddNorm(prefix + "norm", 8, /*plus_one=*/false);
    AddLinear(prefix + "out_proj", kHeadHidden, 16);
  }
  void AddLayer(const std::string& prefix, bool experts, bool recurrent = false) {
    AddNorm(prefix + "input_layernorm", kHeadHidden);
    AddNorm(prefix + "post_attention_layernorm", kHeadHidden);
    if (recurrent) {
      AddDelta(prefix + "linear_attn.");
    } else {
      AddAttention(prefix + "self_attn.");
    }
    if (!experts) return AddMlp(prefix + "mlp.", kind_ == HeadKind::kDeepSeek ? 52 : 76);
    AddLinear(prefix + "mlp.gate", 8, kHeadHidden);
    Add(prefix + "mlp.gate.e_score_correction_bias", {8});
    for (int i = 0; i < 8; ++i) AddMlp(prefix + "mlp.experts." + std::to_string(i) + ".", 28);
    AddMlp(prefix + "mlp.shared_experts.", kind_ == HeadKind::kDeepSeek ? 56 : 28);
  }

  HeadKind kind_;
  uint32_t seed_;
};

}  // namespace penstock
