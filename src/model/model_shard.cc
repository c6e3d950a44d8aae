#include "model/model_shard.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

/// Of `num` KV heads: the first that a rank has, and how many.
std::pair<int64_t, int64_t> KvHeadsOf(int64_t num, const ModelShard& shard) {
  if (num >= shard.size) return {num / shard.size * shard.rank, num / shard.size};
  return {shard.rank * num / shard.size, 1};
}

bool HeadsDivide(const HeadShape& heads, int32_t size) {
  return heads.num_heads % size == 0 &&
         (heads.num_kv_heads % size == 0 || size % heads.num_kv_heads == 0);
}

}  // namespace

absl::Status CheckShards(const ModelConfig& config, int32_t size) {
  if (size == 1) return absl::OkStatus();
  const auto refuse = [&](const auto&... why) {
    return absl::UnimplementedError(absl::StrCat("tensor_parallel: ", size, " is not served for ",
                                                 config.architecture, ": ", why...));
  };
  if (config.encoder.present) return refuse("encoders are not shared among ranks");
  if (config.has_latent_attention()) return refuse("latent attention is not shared among ranks");
  if (config.has_recurrent_layers()) return refuse("recurrent layers are not shared among ranks");
  if (config.qk_norm == QkNorm::kWhole)
    return refuse("q and k are normalised over all heads, of which a rank has a part");
  for (const LayerConfig& layer : config.layers) {
    if (HeadsDivide(layer.heads, size)) continue;
    return refuse("its ", layer.heads.num_heads, " heads and ", layer.heads.num_kv_heads,
                  " KV heads do not divide among ", size, " ranks");
  }
  for (const int32_t inner : {config.intermediate_size, config.experts.intermediate_size,
                              config.experts.shared_intermediate_size}) {
    if (inner % size != 0)
      return refuse("its inner width of ", inner, " does not divide among ", size, " ranks");
  }
  if (config.vocab_size < size) return refuse("it has ", config.vocab_size, " tokens");
  return absl::OkStatus();
}

ModelConfig ShardOf(const ModelConfig& config, const ModelShard& shard) {
  ModelConfig own = config;
  for (LayerConfig& layer : own.layers) {
    layer.heads.num_heads /= shard.size;
    layer.heads.num_kv_heads =
        static_cast<int32_t>(KvHeadsOf(layer.heads.num_kv_heads, shard).second);
  }
  own.intermediate_size /= shard.size;
  own.experts.intermediate_size /= shard.size;
  own.experts.shared_intermediate_size /= shard.size;
  return own;
}

std::pair<int64_t, int64_t> VocabularyOf(const ModelConfig& config, const ModelShard& shard) {
  const int64_t begin = int64_t{config.vocab_size} * shard.rank / shard.size;
  const int64_t end = int64_t{config.vocab_size} * (shard.rank + 1) / shard.size;
  return {begin, end - begin};
}

std::vector<int32_t> Ascending(int64_t begin, int64_t count) {
  std::vector<int32_t> run(count);
  std::iota(run.begin(), run.end(), static_cast<int32_t>(begin));
  return run;
}

std::vector<int32_t> InnerRows(int64_t inner, bool gated, const ModelShard& shard) {
  const int64_t own = inner / shard.size;
  std::vector<int32_t> rows = Ascending(shard.rank * own, own);
  if (!gated) return rows;
  const std::vector<int32_t> ups = Ascending(inner + shard.rank * own, own);
  rows.insert(rows.end(), ups.begin(), ups.end());
  return rows;
}

void TakeRows(const std::vector<int32_t>& rows, LayerLinear& layer) {
  std::vector<RowsOf> taken;
  int64_t begin = 0;  // of the part's rows among all
  for (const RowsOf& part : layer.parts) {
    RowsOf own = part;
    own.order.clear();
    if (own.tensor_rows == 0) own.tensor_rows = part.rows;
    for (const int32_t row : rows) {
      const int64_t within = row - begin;
      if (within < 0 || within >= part.rows) continue;
      own.order.push_back(part.order.empty() ? static_cast<int32_t>(within) : part.order[within]);
    }
    own.rows = static_cast<int64_t>(own.order.size());
    begin += part.rows;
    if (own.rows > 0) taken.push_back(std::move(own));
  }
  layer.parts = std::move(taken);
}

void TakeColumns(const ModelShard& shard, LayerLinear& layer) {
  const int64_t own = layer.k / shard.size;
  for (RowsOf& part : layer.parts) {
    part.k_begin = own * shard.rank;
    part.tensor_k = layer.k;
  }
  layer.k = own;
}

LayerLinears ShardLinears(const ModelConfig& config, size_t index, const ModelShard& shard,
                          LayerLinears linears) {
  if (shard.whole()) return linears;
  const HeadShape& heads = config.layers[index].heads;
  const int64_t dim = heads.head_dim;
  std::vector<int32_t> rows;
  int64_t section = 0;  // its first row
  const auto take = [&](int64_t all, int64_t first, int64_t count) {
    const std::vector<int32_t> own = Ascending(section + first * dim, count * dim);
    rows.insert(rows.end(), own.begin(), own.end());
    section += all * dim;
  };
  const int64_t own_heads = heads.num_heads / shard.size;
  const auto [first_kv, own_kv] = KvHeadsOf(heads.num_kv_heads, shard);
  take(heads.num_heads, shard.rank * own_heads, own_heads);
  take(heads.num_kv_heads, first_kv, own_kv);
  take(heads.num_kv_heads, first_kv, own_kv);
  if (config.attention_gate) take(heads.num_heads, shard.rank * own_heads, own_heads);
  TakeRows(rows, linears.qkv);
  TakeColumns(shard, linears.o);
  if (!config.layers[index].experts) {
    TakeRows(InnerRows(config.intermediate_size, config.gated_mlp, shard), linears.gate_up);
    TakeColumns(shard, linears.down);
  }
  return linears;
}

}  // namespace penstock
