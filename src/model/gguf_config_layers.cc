#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "format/gguf.h"
#include "model/gguf_config_parts.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

/// One number for each of at least `layers` layers.
const GgufValue* ByLayer(GgufKeys& keys, std::string_view key, int64_t layers) {
  const GgufValue* value = keys.Find(key);
  if (value == nullptr || !value->is_array) return nullptr;
  if (!value->is_integer() || value->size < static_cast<uint64_t>(layers)) {
    keys.Fail(key, absl::StrCat("expected one integer for each of ", layers, " layers"));
    return nullptr;
  }
  return value;
}

}  // namespace

void PutGgufLatent(GgufKeys& keys, Json& out) {
  const int64_t rope = keys.RequiredInt("rope.dimension_count");
  out["kv_lora_rank"] = keys.RequiredInt("attention.kv_lora_rank");
  if (const auto rank = keys.Int("attention.q_lora_rank")) out["q_lora_rank"] = *rank;
  // Older files give the heads' sizes where newer ones give those of the cached latents.
  const std::optional<int64_t> cached_key = keys.Int("attention.key_length");
  const std::optional<int64_t> cached_value = keys.Int("attention.value_length");
  std::optional<int64_t> key = keys.Int("attention.key_length_mla");
  std::optional<int64_t> value = keys.Int("attention.value_length_mla");
  if (!key) key = cached_key;
  if (!value) value = cached_value;
  if (rope < 1 || !key || *key <= rope) {
    return keys.Fail("attention.key_length_mla",
                     absl::StrCat("expected more than rope.dimension_count ", rope));
  }
  if (!value) return keys.Fail("attention.value_length_mla", "is missing, expected an integer");
  out["qk_nope_head_dim"] = *key - rope;
  out["qk_rope_head_dim"] = rope;
  out["v_head_dim"] = *value;
  out["head_dim"] = rope;
  out["num_key_value_heads"] = out["num_attention_heads"];
  keys.Find("attention.head_count_kv");  // 1, or as many as heads: the latent is one for all
}

void PutGgufDelta(GgufKeys& keys, Json& out) {
  const int64_t values = keys.RequiredInt("ssm.time_step_rank");
  const int64_t inner = keys.RequiredInt("ssm.inner_size");
  out["linear_num_key_heads"] = keys.RequiredInt("ssm.group_count");
  out["linear_num_value_heads"] = values;
  out["linear_key_head_dim"] = keys.RequiredInt("ssm.state_size");
  if (values < 1 || inner % values != 0) {
    return keys.Fail("ssm.inner_size",
                     absl::StrCat("expected a multiple of ssm.time_step_rank ", values));
  }
  out["linear_value_head_dim"] = inner / values;
  out["linear_conv_kernel_dim"] = keys.RequiredInt("ssm.conv_kernel");
  const int64_t every = keys.Int("full_attention_interval").value_or(4);
  if (every < 1) return keys.Fail("full_attention_interval", "expected at least 1");
  const int64_t layers = out["num_hidden_layers"].get<int64_t>();
  const GgufValue* recurrent = ByLayer(keys, "attention.recurrent_layers", layers);
  Json types = Json::array();
  for (int64_t i = 0; i < layers; ++i) {
    const bool linear = recurrent != nullptr ? recurrent->Int(i) != 0 : (i + 1) % every != 0;
    types.push_back(linear ? "linear_attention" : "full_attention");
  }
  out["layer_types"] = std::move(types);
}

void PutGgufPerLayerHeads(GgufKeys& keys, Json& out) {
  const Json types = out["layer_types"];
  const auto layers = static_cast<int64_t>(types.size());
  const GgufValue* kv_heads = ByLayer(keys, "attention.head_count_kv", layers);
  const int64_t full_dim = keys.RequiredInt("attention.key_length");
  Json own = Json::object();
  bool keys_are_values = false;
  std::optional<int64_t> sliding_heads;
  for (int64_t i = 0; i < layers; ++i) {
    const int64_t heads =
        kv_heads != nullptr ? kv_heads->Int(i) : out["num_key_value_heads"].get<int64_t>();
    if (types[i] == "full_attention") {
      own[absl::StrCat(i)] = {{"head_dim", full_dim}, {"num_key_value_heads", heads}};
      keys_are_values |=
          keys.file().FindTensor(absl::StrCat("blk.", i, ".attn_v.weight")) == nullptr;
    } else if (sliding_heads.value_or(heads) != heads) {
      keys.Fail("attention.head_count_kv", "expected the same number for layers with a window");
    } else {
      sliding_heads = heads;
    }
  }
  if (sliding_heads) out["num_key_value_heads"] = *sliding_heads;
  out["attention_k_eq_v"] = keys_are_values;
  out["per_layer_config"] = std::move(own);
}

}  // namespace penstock
