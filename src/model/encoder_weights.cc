#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/weight_blocks.h"

namespace penstock {
namespace {

/// Some files are older than the names weight and bias of a norm.
absl::StatusOr<NormWeights> LoadNorm(const std::string& name, int64_t size, WeightLoader& loader) {
  if (loader.source().Has(name + ".weight") || !loader.source().Has(name + ".gamma"))
    return loader.Norm(name, NormType::kLayer, size);
  NormWeights norm;
  ASSIGN_OR_RETURN(norm.weight, loader.Vector(name + ".gamma", size));
  ASSIGN_OR_RETURN(norm.bias, loader.Vector(name + ".beta", size));
  return norm;
}

absl::StatusOr<EncoderLayerWeights> LoadEncoderLayer(const ModelConfig& c, const std::string& name,
                                                     WeightLoader& loader) {
  const int64_t hidden = c.hidden_size;
  EncoderLayerWeights w;
  const std::string self = name + "attention.self.";
  const RowsOf qkv[] = {{.name = self + "query", .rows = hidden},
                        {.name = self + "key", .rows = hidden},
                        {.name = self + "value", .rows = hidden}};
  ASSIGN_OR_RETURN(w.qkv, loader.Linear(qkv, hidden, true));
  const std::string output = name + "attention.output.";
  ASSIGN_OR_RETURN(w.o, loader.Linear({.name = output + "dense", .rows = hidden}, hidden, true));
  ASSIGN_OR_RETURN(w.attention_norm, LoadNorm(output + "LayerNorm", hidden, loader));
  ASSIGN_OR_RETURN(w.up,
                   loader.Linear({.name = name + "intermediate.dense", .rows = c.intermediate_size},
                                 hidden, true));
  ASSIGN_OR_RETURN(w.down, loader.Linear({.name = name + "output.dense", .rows = hidden},
                                         c.intermediate_size, true));
  ASSIGN_OR_RETURN(w.mlp_norm, LoadNorm(name + "output.LayerNorm", hidden, loader));
  return w;
}

}  // namespace

absl::StatusOr<std::unique_ptr<EncoderWeights>> LoadEncoder(const ModelConfig& c,
                                                            WeightLoader& loader,
                                                            ModelWeights& out) {
  std::string prefix = absl::StartsWith(c.architecture, "Bert") ? "bert." : "roberta.";
  if (!loader.source().Has(prefix + "embeddings.word_embeddings.weight")) prefix.clear();
  const std::string tables = prefix + "embeddings.";
  auto w = std::make_unique<EncoderWeights>();
  ASSIGN_OR_RETURN(
      w->words, loader.Table(tables + "word_embeddings.weight", c.vocab_size, c.hidden_size, out));
  ASSIGN_OR_RETURN(w->positions,
                   loader.Table(tables + "position_embeddings.weight",
                                c.max_positions + c.encoder.position_offset, c.hidden_size, out));
  if (c.encoder.num_types > 0) {
    ASSIGN_OR_RETURN(w->types, loader.Table(tables + "token_type_embeddings.weight",
                                            c.encoder.num_types, c.hidden_size, out));
  }
  ASSIGN_OR_RETURN(w->norm, LoadNorm(tables + "LayerNorm", c.hidden_size, loader));
  for (size_t i = 0; i < c.layers.size(); ++i) {
    ASSIGN_OR_RETURN(EncoderLayerWeights layer,
                     LoadEncoderLayer(c, absl::StrCat(prefix, "encoder.layer.", i, "."), loader));
    w->layers.push_back(std::move(layer));
  }
  if (c.encoder.num_labels == 0) return w;
  const std::string dense = c.encoder.pooler ? prefix + "pooler.dense" : "classifier.dense";
  const std::string head = c.encoder.pooler ? "classifier" : "classifier.out_proj";
  ASSIGN_OR_RETURN(w->head_dense,
                   loader.Linear({.name = dense, .rows = c.hidden_size}, c.hidden_size, true));
  ASSIGN_OR_RETURN(w->head_out, loader.Linear({.name = head, .rows = c.encoder.num_labels},
                                              c.hidden_size, true));
  return w;
}

}  // namespace penstock
