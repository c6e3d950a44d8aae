#include "model/weights.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "model/weight_blocks.h"
#include "model/weight_loader.h"

namespace penstock {
namespace {

class LayerLoader {
 public:
  LayerLoader(const ModelConfig& config, const ModelNames& names, WeightLoader& loader,
              const ModelShard& shard)
      : c_(config), names_(names), loader_(loader), shard_(shard) {}

  absl::StatusOr<LayerWeights> Load(size_t index) {
    return Load(index, absl::StrCat(names_.prefix, ToAbsl(names_.layers), index, "."));
  }
  absl::StatusOr<LayerWeights> Load(size_t index, const std::string& prefix) {
    const LayerConfig& layer = c_.layers[index];
    const LayerLinears linears = ShardLinears(c_, index, shard_, LinearsOf(c_, index, prefix));
    LayerWeights w;
    RETURN_IF_ERROR(Norms(prefix, w));
    if (layer.recurrent) {
      ASSIGN_OR_RETURN(w.delta, LoadDelta(c_, linears, prefix, loader_));
    } else {
      RETURN_IF_ERROR(Attention(layer, linears, prefix, w));
    }
    if (layer.experts) {
      ASSIGN_OR_RETURN(w.mixture, LoadMixture(c_, linears.router, prefix, shard_, loader_));
    } else {
      ASSIGN_OR_RETURN(w.gate_up, Linear(linears.gate_up, c_.mlp_bias));
      ASSIGN_OR_RETURN(w.down, Linear(linears.down, c_.mlp_bias && shard_.rank == 0));
    }
    if (c_.layer_scalar) {
      ASSIGN_OR_RETURN(const std::vector<float> scalar,
                       loader_.Floats(prefix + "layer_scalar", {1}));
      w.scalar = scalar[0];
    }
    return w;
  }

 private:
  absl::Status Norms(const std::string& prefix, LayerWeights& w) {
    const auto load = [&](std::string_view name, NormWeights& norm) -> absl::Status {
      if (name.empty()) return absl::OkStatus();
      ASSIGN_OR_RETURN(norm,
                       loader_.Norm(absl::StrCat(prefix, ToAbsl(name)), c_.norm, c_.hidden_size));
      return absl::OkStatus();
    };
    RETURN_IF_ERROR(load(c_.norm_names.attention_input, w.attention_input));
    RETURN_IF_ERROR(load(c_.norm_names.attention_output, w.attention_output));
    RETURN_IF_ERROR(load(c_.norm_names.mlp_input, w.mlp_input));
    return load(c_.norm_names.mlp_output, w.mlp_output);
  }

  absl::StatusOr<PackedLinear> Linear(const LayerLinear& linear, bool bias) {
    return loader_.Linear(linear.parts, linear.k, bias);
  }

  absl::Status Attention(const LayerConfig& layer, const LayerLinears& linears,
                         const std::string& prefix, LayerWeights& w) {
    const std::string attention = absl::StrCat(prefix, ToAbsl(names_.attention));
    const HeadShape& heads = layer.heads;
    if (c_.has_latent_attention()) {
      ASSIGN_OR_RETURN(w.latent, LoadLatent(c_, heads, linears, prefix, loader_));
    } else {
      ASSIGN_OR_RETURN(w.qkv, Linear(linears.qkv, c_.qkv_bias));
    }
    if (c_.qk_norm != QkNorm::kNone) {
      const bool whole = c_.qk_norm == QkNorm::kWhole;
      const int64_t dim = heads.head_dim;
      ASSIGN_OR_RETURN(w.q_norm, loader_.Norm(attention + "q_norm", c_.norm,
                                              whole ? heads.num_heads * dim : dim));
      ASSIGN_OR_RETURN(w.k_norm, loader_.Norm(attention + "k_norm", c_.norm,
                                              whole ? heads.num_kv_heads * dim : dim));
    }
    if (c_.sinks) {
      ASSIGN_OR_RETURN(const std::vector<float> sinks,
                       loader_.Floats(attention + "sinks", {heads.num_heads}));
      const int64_t own = heads.num_heads / shard_.size;
      ASSIGN_OR_RETURN(
          w.sinks, loader_.ToDevice(absl::MakeConstSpan(sinks).subspan(shard_.rank * own, own)));
    }
    ASSIGN_OR_RETURN(w.o, Linear(linears.o, c_.o_bias && shard_.rank == 0));
    return absl::OkStatus();
  }

  const ModelConfig& c_;
  const ModelNames& names_;
  WeightLoader& loader_;
  const ModelShard shard_;
};

/// Tells of so many of `parts` about equal ones, as bytes of what the files hold.
class PartsTold {
 public:
  PartsTold(const TensorSource& source, const LoadProgress& progress, size_t parts)
      : progress_(progress), parts_(static_cast<int64_t>(parts)) {
    if (!progress) return;
    for (const StoredTensor& tensor : source.Stored())
      bytes_ += static_cast<int64_t>(tensor.data.size());
  }
  void Done(size_t parts) const {
    if (!progress_) return;
    const auto done = static_cast<int64_t>(parts);
    // Without an overflow for any model.
    progress_("weights", bytes_ / parts_ * done + bytes_ % parts_ * done / parts_, bytes_);
  }

 private:
  const LoadProgress& progress_;
  const int64_t parts_;
  int64_t bytes_ = 0;
};

}  // namespace

absl::StatusOr<LayerWeights> LoadLayer(const ModelConfig& config, size_t layer,
                                       const std::string& prefix, WeightLoader& loader) {
  const ModelNames names = NamesOf(config.layout);
  return LayerLoader(config, names, loader, {}).Load(layer, prefix);
}

ModelNames FindNames(Layout layout, const TensorSource& source) {
  ModelNames names = NamesOf(layout);
  for (const std::string& prefix : PrefixesOf(layout)) {
    if (!source.Has(absl::StrCat(prefix, ToAbsl(names.embedding), ".weight"))) continue;
    if (prefix == "language_model.model.") names.head_prefix = "language_model.";
    names.prefix = prefix;
    return names;
  }
  return names;
}

namespace {

absl::StatusOr<ModelWeights> LoadAll(const ModelConfig& config, TensorSource& source,
                                     Device& device, const LoadProgress& progress,
                                     const ModelShard& shard) {
  WeightLoader loader(source, device);
  if (config.encoder.present) {
    ModelWeights encoder;
    ASSIGN_OR_RETURN(encoder.encoder, LoadEncoder(config, loader, encoder));
    PartsTold(source, progress, 1).Done(1);
    return encoder;
  }
  const ModelNames names = FindNames(config.layout, source);
  const PartsTold told(source, progress, config.layers.size() + 1);
  LayerLoader layers(config, names, loader, shard);
  ModelWeights out;
  RETURN_IF_ERROR(loader.Embedding(names.Embedding(), config, shard, out));
  if (config.position_table) {
    ASSIGN_OR_RETURN(out.positions, loader.Table(names.prefix + "wpe.weight", config.max_positions,
                                                 config.hidden_size, out));
  }
  for (size_t i = 0; i < config.layers.size(); ++i) {
    told.Done(i);
    ASSIGN_OR_RETURN(LayerWeights layer, layers.Load(i));
    out.layers.push_back(std::move(layer));
  }
  told.Done(config.layers.size());
  ASSIGN_OR_RETURN(out.final_norm, loader.Norm(absl::StrCat(names.prefix, ToAbsl(names.final_norm)),
                                               config.norm, config.hidden_size));
  const std::string head = config.tied_embeddings ? names.Embedding() : names.Head();
  RowsOf tokens{.name = head, .rows = config.vocab_size};
  if (!shard.whole()) {
    const auto [begin, rows] = VocabularyOf(config, shard);
    tokens = {.name = head,
              .rows = rows,
              .order = Ascending(begin, rows),
              .tensor_rows = config.vocab_size};
  }
  tokens.bias_of = names.Head();  // which is never shared
  ASSIGN_OR_RETURN(out.lm_head,
                   loader.Linear(std::move(tokens), config.hidden_size, config.head_bias));
  told.Done(config.layers.size() + 1);
  return out;
}

}  // namespace

absl::StatusOr<ModelWeights> LoadWeights(const ModelConfig& config, TensorSource& source,
                                         Device& device, const LoadProgress& progress,
                                         const ModelShard& shard) {
  auto weights = LoadAll(config, source, device, progress, shard);
  RETURN_IF_ERROR(source.Intact());  // also where what is gone was found to be wrong otherwise
  return weights;
}

}  // namespace penstock
