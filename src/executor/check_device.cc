#include "executor/check_device.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace penstock {

absl::Status CheckDevice(const ModelConfig& config, const DeviceAbilities& abilities,
                         const std::string& device) {
  const auto lacks = [&](const auto&... what) {
    return absl::UnimplementedError(absl::StrCat(
        "device ", device, " cannot compute the model: ", what..., "; use device: cpu"));
  };
  if (config.encoder.present && !abilities.encode) return lacks("it has no operation Encode");
  if (config.has_recurrent_layers() && !abilities.delta_rule)
    return lacks("it has no operation DeltaRule");
  for (const LayerConfig& layer : config.layers) {
    if (layer.recurrent) continue;
    const int32_t dim = layer.heads.head_dim;
    if (dim > abilities.head_dim || dim % abilities.head_dim_unit != 0) {
      return lacks("heads of ", dim, " dimensions, where it takes multiples of ",
                   abilities.head_dim_unit, " up to ", abilities.head_dim);
    }
  }
  const ExpertsConfig& e = config.experts;
  if (e.num_experts > abilities.experts)
    return lacks(e.num_experts, " experts, where it takes ", abilities.experts);
  if (e.top_k > abilities.top_experts)
    return lacks(e.top_k, " experts at a time, where it takes ", abilities.top_experts);
  if (e.rule.num_groups > abilities.expert_groups)
    return lacks(e.rule.num_groups, " groups of experts, where it takes ", abilities.expert_groups);
  return absl::OkStatus();
}

absl::Status CheckDTypes(DType activations, DType cache, const DeviceAbilities& abilities,
                         const std::string& device) {
  if (abilities.float32) return absl::OkStatus();
  if (activations == DType::kFloat32) {
    return absl::InvalidArgumentError(
        absl::StrCat("device ", device, " computes in bfloat16, not in float32; set dtype"));
  }
  if (cache != activations && cache != DType::kInt8) {
    return absl::InvalidArgumentError(
        absl::StrCat("device ", device, " has caches of ", std::string(DTypeName(activations)),
                     " or int8, not of ", std::string(DTypeName(cache)), "; set kv_dtype"));
  }
  return absl::OkStatus();
}

}  // namespace penstock
