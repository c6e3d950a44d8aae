#include "model/weights.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "model/weight_blocks.h"
#include "model/weight_loader.h"

namespace penstock {
namespace {

/// How a layout calls the tensors of a whole model.
struct ModelNames {
  std::string prefix;  // the layout's own, or what is found by looking
  std::string_view embedding, layers, final_norm, head, attention, o;
  std::string head_prefix;
};

ModelNames NamesOf(Layout layout) {
  switch (layout) {
    case Layout::kGpt2:
      return {"transformer.", "wte", "h.", "ln_f", "lm_head", "attn.", "c_proj", ""};
    case Layout::kGptNeoX:
      return {"gpt_neox.", "embed_in",   "layers.", "final_layer_norm",
              "embed_out", "attention.", "dense",   ""};
    case Layout::kLlama:
    case Layout::kFused:
    case Layout::kFusedMlp:
      break;
  }
  return {"model.", "embed_tokens", "layers.", "norm", "lm_head", "self_attn.", "o_proj", ""};
}

/// A text model of its own, or the language part of a larger one.
ModelNames FindNames(Layout layout, const TensorSource& source) {
  ModelNames names = NamesOf(layout);
  const std::string own = names.prefix;
  for (const std::string_view prefix :
       {std::string_view(own), std::string_view("language_model.model."),
        std::string_view("model.language_model."), std::string_view("language_model."),
        std::string_view("")}) {
    if (!source.Has(absl::StrCat(ToAbsl(prefix), ToAbsl(names.embedding), ".weight"))) continue;
    if (prefix == "language_model.model.") names.head_prefix = "language_model.";
    names.prefix = std::string(prefix);
    return names;
  }
  return names;
}

class LayerLoader {
 public:
  LayerLoader(const ModelConfig& config, const ModelNames& names, WeightLoader& loader)
      : c_(config), names_(names), loader_(loader) {}

  absl::StatusOr<LayerWeights> Load(size_t index) {
    const LayerConfig& layer = c_.layers[index];
    const std::string prefix = absl::StrCat(names_.prefix, ToAbsl(names_.layers), index, ".");
    LayerWeights w;
    RETURN_IF_ERROR(Norms(prefix, w));
    if (layer.recurrent) {
      ASSIGN_OR_RETURN(w.delta, LoadDelta(c_, prefix, loader_));
    } else {
      RETURN_IF_ERROR(Attention(layer, prefix, w));
    }
    if (layer.experts) {
      ASSIGN_OR_RETURN(w.mixture, LoadMixture(c_, prefix, loader_));
    } else {
      RETURN_IF_ERROR(Mlp(prefix + "mlp.", w));
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

  absl::Status Attention(const LayerConfig& layer, const std::string& prefix, LayerWeights& w) {
    const std::string attention = absl::StrCat(prefix, ToAbsl(names_.attention));
    const HeadShape& heads = layer.heads;
    int64_t out_size = int64_t{heads.num_heads} * heads.head_dim;
    if (c_.has_latent_attention()) {
      ASSIGN_OR_RETURN(w.latent, LoadLatent(c_, heads, prefix, loader_));
      out_size = int64_t{heads.num_heads} * c_.latent.value_dim;
    } else {
      ASSIGN_OR_RETURN(w.qkv,
                       loader_.Linear(QkvRows(layer, attention), c_.hidden_size, c_.qkv_bias));
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
      ASSIGN_OR_RETURN(w.sinks, loader_.Vector(attention + "sinks", heads.num_heads));
    }
    ASSIGN_OR_RETURN(w.o, loader_.Linear({.name = absl::StrCat(attention, ToAbsl(names_.o)),
                                          .rows = c_.hidden_size,
                                          .transposed = c_.layout == Layout::kGpt2},
                                         out_size, c_.o_bias));
    return absl::OkStatus();
  }

  std::vector<RowsOf> QkvRows(const LayerConfig& layer, const std::string& attention) const {
    const int64_t heads = layer.heads.num_heads;
    const int64_t kv_heads = layer.heads.num_kv_heads;
    const int64_t dim = layer.heads.head_dim;
    const int64_t all = (heads + 2 * kv_heads) * dim;
    if (c_.layout == Layout::kFused) return {{.name = attention + "qkv_proj", .rows = all}};
    if (c_.layout == Layout::kGpt2)
      return {{.name = attention + "c_attn", .rows = all, .transposed = true}};
    if (c_.layout == Layout::kGptNeoX) {
      std::vector<int32_t> order;
      for (int64_t part = 0; part < 3; ++part) {
        const std::vector<int32_t> rows = RowsOfHeads(heads, dim, 3 * dim, part * dim);
        order.insert(order.end(), rows.begin(), rows.end());
      }
      return {{.name = attention + "query_key_value", .rows = all, .order = std::move(order)}};
    }
    const int64_t turned =
        c_.rope_interleaved && layer.rope >= 0 ? c_.ropes[layer.rope].rotary_dim : 0;
    const int64_t stride = c_.attention_gate ? 2 * dim : dim;  // of a head in q_proj
    const auto rows = [&](std::string_view name, int64_t num, int64_t step, int64_t offset,
                          int64_t turn) {
      RowsOf part{absl::StrCat(attention, ToAbsl(name)), num * dim, {}, num * step};
      if (step != dim || turn > 0) part.order = RowsOfHeads(num, dim, step, offset, turn);
      return part;
    };
    std::vector<RowsOf> parts = {
        rows("q_proj", heads, stride, 0, turned), rows("k_proj", kv_heads, dim, 0, turned),
        rows(layer.values_are_keys ? "k_proj" : "v_proj", kv_heads, dim, 0, 0)};
    if (c_.attention_gate) parts.push_back(rows("q_proj", heads, stride, dim, 0));
    return parts;
  }

  absl::Status Mlp(const std::string& mlp, LayerWeights& w) {
    const int64_t inner = c_.intermediate_size;
    std::vector<RowsOf> up;
    RowsOf down{.name = mlp + "down_proj", .rows = c_.hidden_size};
    switch (c_.layout) {
      case Layout::kLlama:
        up = {{.name = mlp + "gate_proj", .rows = inner}, {.name = mlp + "up_proj", .rows = inner}};
        break;
      case Layout::kFused:
      case Layout::kFusedMlp:
        up = {{.name = mlp + "gate_up_proj", .rows = 2 * inner}};
        break;
      case Layout::kGpt2:
        up = {{.name = mlp + "c_fc", .rows = inner, .transposed = true}};
        down = {.name = mlp + "c_proj", .rows = c_.hidden_size, .transposed = true};
        break;
      case Layout::kGptNeoX:
        up = {{.name = mlp + "dense_h_to_4h", .rows = inner}};
        down.name = mlp + "dense_4h_to_h";
        break;
    }
    ASSIGN_OR_RETURN(w.gate_up, loader_.Linear(up, c_.hidden_size, c_.mlp_bias));
    ASSIGN_OR_RETURN(w.down, loader_.Linear(std::move(down), inner, c_.mlp_bias));
    return absl::OkStatus();
  }

  const ModelConfig& c_;
  const ModelNames& names_;
  WeightLoader& loader_;
};

}  // namespace

absl::StatusOr<ModelWeights> LoadWeights(const ModelConfig& config, TensorSource& source,
                                         Device& device, const LoadProgress& progress) {
  WeightLoader loader(source, device);
  if (config.encoder.present) {
    ModelWeights encoder;
    ASSIGN_OR_RETURN(encoder.encoder, LoadEncoder(config, loader, encoder));
    if (progress) progress("weights", 1, 1);
    return encoder;
  }
  const ModelNames names = FindNames(config.layout, source);
  LayerLoader layers(config, names, loader);
  ModelWeights out;
  const auto total = static_cast<int64_t>(config.layers.size()) + 1;
  const std::string embedding = absl::StrCat(names.prefix, ToAbsl(names.embedding));
  RETURN_IF_ERROR(loader.Embedding(embedding, config, out));
  if (config.position_table) {
    ASSIGN_OR_RETURN(out.positions, loader.Table(names.prefix + "wpe.weight", config.max_positions,
                                                 config.hidden_size, out));
  }
  for (size_t i = 0; i < config.layers.size(); ++i) {
    if (progress) progress("weights", static_cast<int64_t>(i), total);
    ASSIGN_OR_RETURN(LayerWeights layer, layers.Load(i));
    out.layers.push_back(std::move(layer));
  }
  if (progress) progress("weights", total - 1, total);
  ASSIGN_OR_RETURN(out.final_norm, loader.Norm(absl::StrCat(names.prefix, ToAbsl(names.final_norm)),
                                               config.norm, config.hidden_size));
  const std::string head =
      config.tied_embeddings ? embedding : absl::StrCat(names.head_prefix, ToAbsl(names.head));
  ASSIGN_OR_RETURN(out.lm_head, loader.Linear({.name = head, .rows = config.vocab_size},
                                              config.hidden_size, false));
  if (progress) progress("weights", total, total);
  return out;
}

}  // namespace penstock
