// The names of a GGUF file's tensors by those of the family's checkpoint on the hub.
// Owns nothing. Must not know files or shapes.
// Threads: immutable.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/gguf_architecture.h"

namespace penstock {

/// What conversion did to the order of a tensor's rows or columns.
enum class GgufOrder : uint8_t {
  kSame,
  kQueryHeads,    // the halves of each query head's rows in turn
  kKeyHeads,      // of each key head's
  kValues,        // tiled value heads of one row each
  kValueRows,     // tiled value heads
  kMixedRows,     // tiled value heads behind the rows of q and k
  kValueColumns,  // tiled value heads, by columns
};

struct GgufName {
  std::string tensor;          // "blk.0.attn_q.weight"
  int64_t expert = -1;         // which matrix of a stack [num_experts, rows, k]; -1: not of a stack
  std::string unstacked = {};  // what older files call the expert's own tensor
  GgufOrder order = GgufOrder::kSame;
};

/// Of "model.layers.0.self_attn.q_proj.weight" and the like; nullopt where GGUF has no such tensor.
std::optional<GgufName> GgufNameOf(const GgufArchitecture& arch, std::string_view name);

/// gpt-oss: experts stacked in one tensor of the checkpoint, gates and ups in turn.
struct GgufStack {
  std::string tensors[2];  // "blk.0.ffn_gate_exps" and "blk.0.ffn_up_exps", or one of them
  int32_t num_tensors = 0;
  bool bias = false;
};

/// The two halves of "blk.0.attn_kv_b.weight" in newer files: keys [heads, rank, dim] and values
/// [heads, dim, rank].
struct GgufLatentUp {
  std::string keys, values;
};

/// Of "model.layers.0.self_attn.kv_b_proj".
std::optional<GgufLatentUp> GgufLatentUpOf(std::string_view name);

/// Of "model.layers.0.mlp.experts.gate_up_proj", "down_proj" and their biases.
std::optional<GgufStack> GgufStackOf(const GgufArchitecture& arch, std::string_view name);

}  // namespace penstock
