// How a layout names the tensors of a model, and which of them each linear layer of a block is made
// of. Owns its strings. Must not know files or devices.
// Threads: value.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/model_config.h"

namespace penstock {

/// Some rows of a linear layer, taken from one tensor.
struct RowsOf {
  std::string name;                 // of the tensor, without ".weight" and ".bias"
  int64_t rows = 0;                 // taken
  std::vector<int32_t> order = {};  // which rows of the tensor; empty: the first so many
  int64_t tensor_rows = 0;          // the tensor has; 0: as many as are taken
  bool transposed = false;          // the tensor is [k, tensor_rows]
  int64_t k_begin = 0;              // the first of the tensor's columns that are taken
  int64_t tensor_k = 0;             // the tensor has; 0: as many as are taken
  std::string bias_of = {};         // the tensor that the bias is of; empty: this one
};

/// Rows [head * stride + offset, + dim) of each head in turn. The `rotary_dim` rows from
/// `rotary_begin` on of each, which turn in pairs (2i, 2i + 1), are put where (i, i + rotary_dim /
/// 2) turn; rotary_dim 0: as they are. Scores do not change, since q and k are ordered alike.
std::vector<int32_t> RowsOfHeads(int64_t num_heads, int64_t dim, int64_t stride, int64_t offset,
                                 int64_t rotary_dim = 0, int64_t rotary_begin = 0);

/// How a layout calls the tensors of a whole model.
struct ModelNames {
  std::string prefix;  // the layout's own, or what is found by looking
  std::string_view embedding, layers, final_norm, head, attention, o;
  std::string head_prefix;

  std::string Embedding() const { return prefix + std::string(embedding); }
  std::string Head() const { return head_prefix + std::string(head); }
};

ModelNames NamesOf(Layout layout);
/// What may stand before the names of a layout: a text model of its own, or the language part of a
/// larger one. The layout's own first.
std::vector<std::string> PrefixesOf(Layout layout);

/// One linear layer of a block: the rows of its parts one after the other.
struct LayerLinear {
  std::vector<RowsOf> parts;  // empty: the block has no such layer
  int64_t k = 0;
  int64_t part_stride = 0;  // columns of the result from one part's first to the next's; 0: side by
                            // side
};

/// The linear layers of a block. Recurrent layers: qkv, z, ba and o; latent attention: q_a where q
/// is compressed, q_nope, q_rope (a part for each head), kv_a, kv_b and o; a mixture has a router
/// in place of gate_up and down.
struct LayerLinears {
  LayerLinear qkv, o, gate_up, down, z, ba, q_a, q_nope, q_rope, kv_a, kv_b, router;
};

/// `prefix` goes before every name.
LayerLinears LinearsOf(const ModelConfig& config, size_t layer, const std::string& prefix);

/// Both layers of an expert: gate's rows and up's, and down.
struct ExpertLinears {
  LayerLinear gate_up, down;
};

/// Expert `index` of a block's mixture, of those with tensors of their own; num_experts: the shared
/// one.
ExpertLinears ExpertLinearsOf(const ModelConfig& config, const std::string& prefix, int32_t index);

}  // namespace penstock
