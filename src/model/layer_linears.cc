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

void AddLatent(const ModelConfig& config, const HeadShape& heads, const std::string& attention,
               LayerLinears& out) {
  const LatentConfig& c = config.latent;
  const int64_t num_heads = heads.num_heads;
  const int64_t q_head = c.nope_dim + c.rope_dim;
  const int64_t turned = config.rope_interleaved ? c.rope_dim : 0;
  std::string q = attention + "q_proj";
  int64_t q_in = config.hidden_size;
  if (c.q_rank > 0) {
    out.q_a = {{{.name = attention + "q_a_proj", .rows = c.q_rank}}, config.hidden_size};
    q = attention + "q_b_proj";
    q_in = c.q_rank;
  }
  out.q_nope = {{{q, num_heads * c.nope_dim, RowsOfHeads(num_heads, c.nope_dim, q_head, 0),
                  num_heads * q_head}},
                q_in};
  out.q_rope = {{}, q_in, c.kv_rank + c.rope_dim};
  for (int64_t h = 0; h < num_heads; ++h) {
    out.q_rope.parts.push_back({q, c.rope_dim,
                                RowsOfHeads(1, c.rope_dim, 0, h * q_head + c.nope_dim, turned),
                                num_heads * q_head});
  }
  const int64_t latent = c.kv_rank + c.rope_dim;
  out.kv_a = {{{.name = attention + "kv_a_proj_with_mqa",
                .rows = latent,
                .order = RowsOfHeads(1, latent, 0, 0, turned, c.kv_rank)}},
              config.hidden_size};
  out.kv_b = {{{.name = attention + "kv_b_proj", .rows = num_heads * (c.nope_dim + c.value_dim)}},
              c.kv_rank};
}

void AddDelta(const ModelConfig& config, const std::string& block, LayerLinears& out) {
  const DeltaShape& d = config.delta;
  const int64_t values = int64_t{d.num_value_heads} * d.value_dim;
  RowsOf qkv{.name = block + "in_proj_qkv", .rows = d.channels()};
  RowsOf z{.name = block + "in_proj_z", .rows = values};
  RowsOf b{.name = block + "in_proj_b", .rows = d.num_value_heads};
  RowsOf a{.name = block + "in_proj_a", .rows = d.num_value_heads};
  if (config.fused_delta) {
    const int64_t heads = d.num_key_heads;
    const int64_t own = values / heads;  // of v and z of a key head
    const int64_t stride = 2 * (d.key_dim + own);
    const auto part = [&](int64_t rows, int64_t offset) {
      return RowsOfHeads(heads, rows, stride, offset);
    };
    qkv = {block + "in_proj_qkvz", d.channels(), part(d.key_dim, 0), heads * stride};
    for (const auto& more : {part(d.key_dim, d.key_dim), part(own, 2 * d.key_dim)})
      qkv.order.insert(qkv.order.end(), more.begin(), more.end());
    z = {qkv.name, values, part(own, 2 * d.key_dim + own), heads * stride};
    const int64_t each = d.num_value_heads / heads;
    b = {block + "in_proj_ba", d.num_value_heads, RowsOfHeads(heads, each, 2 * each, 0),
         2 * d.num_value_heads};
    a = b;
    a.order = RowsOfHeads(heads, each, 2 * each, each);
  }
  out.qkv = {{std::move(qkv)}, config.hidden_size};
  out.z = {{std::move(z)}, config.hidden_size};
  out.ba = {{std::move(b), std::move(a)}, config.hidden_size};
  out.o = {{{.name = block + "out_proj", .rows = config.hidden_size}}, values};
}

LayerLinear RouterOf(const ModelConfig& config, const std::string& block) {
  const ExpertsConfig& e = config.experts;
  LayerLinear router{{{.name = absl::StrCat(block, ToAbsl(e.router)), .rows = e.num_experts}},
                     config.hidden_size};
  if (e.shared_gate)
    router.parts.push_back({.name = absl::StrCat(block, "shared_expert_gate"), .rows = 1});
  return router;
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
  if (layer.recurrent) {
    AddDelta(config, prefix + "linear_attn.", out);
  } else {
    const bool latent = config.has_latent_attention();
    if (latent) {
      AddLatent(config, layer.heads, attention, out);
    } else {
      out.qkv = QkvOf(config, layer, attention);
    }
    const int32_t value_dim = latent ? config.latent.value_dim : layer.heads.head_dim;
    out.o = {{{.name = absl::StrCat(attention, ToAbsl(names.o)),
               .rows = config.hidden_size,
               .transposed = config.layout == Layout::kGpt2}},
             int64_t{layer.heads.num_heads} * value_dim};
  }
  if (layer.experts) {
    out.router = RouterOf(config, absl::StrCat(prefix, ToAbsl(config.experts.block)));
  } else {
    AddMlp(config, prefix + "mlp.", out);
  }
  return out;
}

ExpertLinears ExpertLinearsOf(const ModelConfig& config, const std::string& prefix, int32_t index) {
  const ExpertsConfig& e = config.experts;
  const bool shared = index == e.num_experts;
  const int64_t inner = shared ? e.shared_intermediate_size : e.intermediate_size;
  const int64_t hidden = config.hidden_size;
  ExpertLinears out{{{}, hidden}, {{}, inner}};
  if (shared && e.shared_fused) {
    out.gate_up.parts = {{.name = prefix + "shared_mlp.input_linear", .rows = 2 * inner}};
    out.down.parts = {{.name = prefix + "shared_mlp.output_linear", .rows = hidden}};
    return out;
  }
  constexpr std::string_view kOfShared[3] = {"gate_proj", "up_proj", "down_proj"};
  const std::string_view(&names)[3] = shared ? kOfShared : e.projections;
  const std::string_view folder = e.shared_gate ? "shared_expert." : "shared_experts.";
  const std::string expert = shared ? std::string(folder) : absl::StrCat("experts.", index, ".");
  const auto part = [&](int i, int64_t rows) {
    return RowsOf{.name = absl::StrCat(prefix, ToAbsl(e.block), expert, ToAbsl(names[i])),
                  .rows = rows};
  };
  out.gate_up.parts = {part(0, inner), part(1, inner)};
  out.down.parts = {part(2, hidden)};
  return out;
}

}  // namespace penstock
