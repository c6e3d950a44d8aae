#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/strings.h"
#include "format/gguf.h"
#include "model/gguf_config_parts.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

/// What expert_gating_func counts.
enum GgufGating : int64_t { kGatingSoftmax = 1, kGatingSigmoid = 2, kGatingSoftmaxOfChosen = 3 };

/// How the family's router scores; files that leave it out mean `usual`.
void ExpectGating(GgufKeys& keys, const GgufArchitecture& arch, int64_t expected, int64_t usual) {
  const int64_t gating = keys.Int("expert_gating_func").value_or(usual);
  if (gating != 0 && gating != expected) {
    keys.Fail("expert_gating_func",
              absl::StrCat(gating, " is not supported for ", ToAbsl(arch.name), ", expected ",
                           expected, expected == kGatingSigmoid ? " (sigmoid)" : ""));
  }
}

/// Sizes by a key, or by the tensor where older files leave the key out.
std::optional<int64_t> SharedSize(GgufKeys& keys) {
  if (const auto size = keys.Int("expert_shared_feed_forward_length")) return size;
  const GgufTensor* up = keys.file().FindTensor("blk.0.ffn_up_shexp.weight");
  if (up == nullptr || up->shape.size() != 2) return std::nullopt;
  return up->shape[0];
}

void PutDeepSeekExperts(GgufKeys& keys, const GgufArchitecture& arch, int64_t count, Json& out) {
  out["n_routed_experts"] = count;
  out["moe_intermediate_size"] = keys.RequiredInt("expert_feed_forward_length");
  out["n_shared_experts"] = keys.Int("expert_shared_count").value_or(0);
  out["first_k_dense_replace"] = keys.Int("leading_dense_block_count").value_or(0);
  out["n_group"] = keys.Int("expert_group_count").value_or(1);
  out["topk_group"] = keys.Int("expert_group_used_count").value_or(1);
  const double scale = keys.Float("expert_weights_scale").value_or(1.0);
  out["routed_scaling_factor"] = scale == 0 ? 1.0 : scale;
  out["norm_topk_prob"] = keys.Bool("expert_weights_norm").value_or(false);
  // Of deepseek2 files without the key the router is a softmax, as DeepSeek V2's.
  ExpectGating(keys, arch, kGatingSigmoid, arch.latent ? kGatingSoftmax : kGatingSigmoid);
}

}  // namespace

void PutGgufExperts(GgufKeys& keys, const GgufArchitecture& arch, Json& out) {
  if (arch.experts == GgufExperts::kNone) return;
  const int64_t count = keys.RequiredInt("expert_count");
  out["num_experts_per_tok"] = keys.RequiredInt("expert_used_count");
  if (arch.experts == GgufExperts::kDeepSeek) return PutDeepSeekExperts(keys, arch, count, out);
  const std::optional<int64_t> inner = keys.Int("expert_feed_forward_length");
  bool normalized = false;
  switch (arch.experts) {
    case GgufExperts::kMixtral:
    case GgufExperts::kGptOss:
      normalized = true;
      out["num_local_experts"] = count;
      if (inner) out["intermediate_size"] = *inner;
      break;
    case GgufExperts::kOlmoe:
      out["num_experts"] = count;
      if (inner) out["intermediate_size"] = *inner;
      break;
    default:
      normalized = arch.name != "qwen2moe";
      out["num_experts"] = count;
      out["decoder_sparse_step"] = 1;
      if (inner) out["moe_intermediate_size"] = *inner;
      if (!inner) keys.Fail("expert_feed_forward_length", "is missing, expected an integer");
      if (const auto shared = SharedSize(keys)) out["shared_expert_intermediate_size"] = *shared;
      if (!out.contains("intermediate_size") && inner) out["intermediate_size"] = *inner;
  }
  const bool norm = keys.Bool("expert_weights_norm").value_or(normalized);
  const bool fixed = arch.experts == GgufExperts::kMixtral || arch.experts == GgufExperts::kGptOss;
  if (fixed && !norm) {
    keys.Fail("expert_weights_norm", absl::StrCat("expected true for ", ToAbsl(arch.name)));
  }
  out["norm_topk_prob"] = norm;
  const int64_t gating =
      arch.experts == GgufExperts::kGptOss ? kGatingSoftmaxOfChosen : kGatingSoftmax;
  ExpectGating(keys, arch, gating, gating);
}

}  // namespace penstock
