// One rank's part of a model whose layers several ranks share: which heads, columns and tokens are
// its own, and which models can be shared so.
// Owns nothing. Must not know files, devices or how ranks talk.
// Threads: value.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "model/layer_linears.h"
#include "model/model_config.h"

namespace penstock {

struct ModelShard {
  int32_t rank = 0;
  int32_t size = 1;

  bool whole() const { return size == 1; }
};

/// UNIMPLEMENTED, with the family and the reason, where `size` ranks cannot share the model.
absl::Status CheckShards(const ModelConfig& config, int32_t size);

/// The network as a rank computes it: its heads and its part of each inner width. A KV head that
/// there is for fewer ranks than there are is computed by several.
ModelConfig ShardOf(const ModelConfig& config, const ModelShard& shard);

/// First token and number of tokens that a rank embeds and has logits of.
std::pair<int64_t, int64_t> VocabularyOf(const ModelConfig& config, const ModelShard& shard);

/// Of a layer's linears what a rank multiplies: qkv by KV head and gate_up in pairs by their rows, o
/// and down by the columns that the rank has inputs for.
LayerLinears ShardLinears(const ModelConfig& config, size_t layer, const ModelShard& shard,
                          LayerLinears whole);

/// Of gate and up (or of up alone), `inner` rows each, one after the other: those of a rank.
std::vector<int32_t> InnerRows(int64_t inner, bool gated, const ModelShard& shard);
/// Keeps `rows` of all that the layer's parts have together, ascending within each part.
void TakeRows(const std::vector<int32_t>& rows, LayerLinear& layer);
/// Keeps the rank's share of the columns.
void TakeColumns(const ModelShard& shard, LayerLinear& layer);
/// begin, begin + 1, and so on.
std::vector<int32_t> Ascending(int64_t begin, int64_t count);

}  // namespace penstock
