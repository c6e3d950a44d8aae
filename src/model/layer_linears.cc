#include "model/layer_linears.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/strings.h"

namespace penstock {
namespace {

LayerLinear QkvOf(const ModelConfig& c, const LayerConfig& layer, const std::string& attention) {
  LayerLinear qkv{{}, c.hidden_size};
  const int64_t heads = layer.heads.num_heads;
  const int64_t kv_heads = layer.heads.num_kv_heads;
  const int64_t dim = layer.heads.head_dim;
  const int64_t all = (heads + 2 * kv_heads) * dim;
  if (c.layout == Layout::kFused) {
    qkv.parts = {{.name = attention + "qkv_proj", .rows = all}};
    return qkv;
  }
  if (c.layout == Layout::kGpt2) {
    qkv.parts = {{.name = attention + "c_attn", .rows = all, .transposed = true}};
    return qkv;
  }
  if (c.layout == Layout::kGptNeoX) {
    std::vector<int32_t> order;
    for (int64_t part = 0; part < 3; ++part) {
      const std::vector<int32_t> rows = RowsOfHeads(heads, dim, 3 * dim, part * dim);
      order.insert(order.end(), rows.begin(), rows.end());
    }
    qkv.parts = {{.name = attention + "query_key_value", .rows = all, .order = std::move(order)}};
    return qkv;
  }
  if (c.layout == Layout::kFalcon) {
    const int64_t group = heads / kv_heads;  // queries of a KV head
    std::vector<int32_t> order;
    const auto add = [&](int64_t first, int64_t count) {
      for (int64_t kv = 0; kv < kv_heads; ++kv) {
        for (int64_t row = first * dim; row < (first + count) * dim; ++row)
          order.push_back(static_cast<int32_t>(kv * (group + 2) * dim + row));
      }
    };
    add(0, group);
    add(group, 1);
    add(group + 1, 1);
    qkv.parts = {{.name = attention + "query_key_value", .rows = all, .order = std::move(order)}};
    return qkv;
  }
  const int64_t turned = c.rope_interleaved && layer.rope >= 0 ? c.ropes[layer.rope].rotary_dim : 0;
  const int64_t stride = c.attention_gate ? 2 * dim : dim;  // of a head in q_proj
  const auto rows = [&](std::string_view name, int64_t num, int64_t step, int64_t offset,
                        int64_t turn) {
    RowsOf part{absl::StrCat(attention, ToAbsl(name)), num * dim, {}, num * step};
    if (step != dim || turn > 0) part.order = RowsOfHeads(num, dim, step, offset, turn);
    return part;
  };
  qkv.parts = {rows("q_proj", heads, stride, 0, turned), rows("k_proj", kv_heads, dim, 0, turned),
               rows(layer.values_are_keys ? "k_proj" : "v_proj", kv_heads, dim, 0, 0)};
  if (c.attention_gate) qkv.parts.push_back(rows("q_proj", heads, stride, dim, 0));
  return qkv;
}

void AddMlp(const ModelConfig& c, const std::string& mlp, LayerLinears& out) {
  const int64_t inner = c.intermediate_size;
  std::vector<RowsOf>& up = out.gate_up.parts;
  RowsOf down{.name = mlp + "down_proj", .rows = c.hidden_size};
  switch (c.layout) {
    case Layout::kLlama:
      if (c.gated_mlp) up = {{.name = mlp + "gate_proj", .rows = inner}};
      up.push_back({.name = mlp + "up_proj", .rows = inner});
      break;
    case Layout::kFused:
    case Layout::kFusedMlp:
      up = {{.name = mlp + "gate_up_proj", .rows = 2 * inner}};
      break;
    case Layout::kGpt2:
      up = {{.name = mlp + "c_fc", .rows = inner, .transposed = true}};
      down = {.name = mlp + "c_proj", .rows = c.hidden_size, .transposed = true};
      break;
    case Layout::kPhi:
      up = {{.name = mlp + "fc1", .rows = inner}};
      down.name = mlp + "fc2";
      break;
    case Layout::kStarcoder:
      up = {{.name = mlp + "c_fc", .rows = inner}};
      down.name = mlp + "c_proj";
      break;
    case Layout::kGptNeoX:
    case Layout::kFalcon:
      up = {{.name = mlp + "dense_h_to_4h", .rows = inner}};
      down.name = mlp + "dense_4h_to_h";
      break;
  }
  out.gate_up.k = c.hidden_size;
  out.down = {{std::move(down)}, inner};
}

}  // namespace

std::vector<int32_t> RowsOfHeads(int64_t num_heads, int64_t dim, int64_t stride, int64_t offset,
                                 int64_t rotary_dim, int64_t rotary_begin) {
  std::vector<int32_t> order;
  order.reserve(num_heads * dim);
  for (int64_t head = 0; head < num_heads; ++head) {
    for (int64_t i = 0; i < dim; ++i) {
      int64_t from = i;
      const int64_t turn = i - rotary_begin;
      if (turn >= 0 && turn < rotary_dim) {
        const int64_t half = rotary_dim / 2;
        from = rotary_begin + (turn < half ? 2 * turn : 2 * (turn - half) + 1);
      }
      order.push_back(static_cast<int32_t>(head * stride + offset + from));
    }
  }
  return order;
}

ModelNames NamesOf(Layout layout) {
  switch (layout) {
    case Layout::kGpt2:
      return {"transformer.", "wte", "h.", "ln_f", "lm_head", "attn.", "c_proj", ""};
    case Layout::kGptNeoX:
      return {"gpt_neox.", "embed_in",   "layers.", "final_layer_norm",
              "embed_out", "attention.", "dense",   ""};
    case Layout::kFalcon:
      return {"transformer.", "word_embeddings", "h.",    "ln_f",
              "lm_head",      "self_attention.", "dense", ""};
    case Layout::kPhi:
      return {"model.",  "embed_tokens", "layers.", "final_layernorm",
              "lm_head", "self_attn.",   "dense",   ""};
    case Layout::kLlama:
    case Layout::kFused:
    case Layout::kFusedMlp:
    case Layout::kStarcoder:
      break;
  }
  return {"model.", "embed_tokens", "layers.", "norm", "lm_head", "self_attn.", "o_proj", ""};
}

std::vector<std::string> PrefixesOf(Layout layout) {
  return {NamesOf(layout).prefix, "language_model.model.", "model.language_model.",
          "language_model.", ""};
}

LayerLinears LinearsOf(const ModelConfig& config, size_t index, const std::string& prefix) {
  const LayerConfig& layer = config.layers[index];
  const ModelNames names = NamesOf(config.layout);
  const std::string attention = absl::StrCat(prefix, ToAbsl(names.attention));
  LayerLinears out;
  if (!layer.recurrent) {
    const bool latent = config.has_latent_attention();
    if (!latent) out.qkv = QkvOf(config, layer, attention);
    const int32_t value_dim = latent ? config.latent.value_dim : layer.heads.head_dim;
    out.o = {{{.name = absl::StrCat(attention, ToAbsl(names.o)),
               .rows = config.hidden_size,
               .transposed = config.layout == Layout::kGpt2}},
             int64_t{layer.heads.num_heads} * value_dim};
  }
  if (!layer.experts) AddMlp(config, prefix + "mlp.", out);
  return out;
}

}  // namespace penstock
