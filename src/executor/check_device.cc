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
  if (config.has_recurrent_layers() && (config.delta.key_dim > abilities.delta_keys ||
                                        config.delta.key_dim % abilities.head_dim_unit != 0)) {
    return lacks("keys of ", config.delta.key_dim, " dimensions, where it takes multiples of ",
                 abilities.head_dim_unit, " up to ", abilities.delta_keys);
  }
  if (config.has_recurrent_layers() && config.delta.channels() % abilities.head_dim_unit != 0) {
    return lacks(config.delta.channels(), " channels, where it takes multiples of ",
                 abilities.head_dim_unit);
  }
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
  const std::string asked(DTypeName(activations));
  if (abilities.float32) {
    if (activations != DType::kFloat16 && cache != DType::kFloat16) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("device ", device, " computes in float32 or bfloat16, not in float16; set ",
                     activations == DType::kFloat16 ? "dtype" : "kv_dtype"));
  }
  if (activations != abilities.numbers) {
    return absl::InvalidArgumentError(absl::StrCat("device ", device, " computes in ",
                                                   std::string(DTypeName(abilities.numbers)),
                                                   ", not in ", asked, "; set dtype"));
  }
  if (cache != activations && cache != DType::kInt8) {
    return absl::InvalidArgumentError(
        absl::StrCat("device ", device, " has caches of ", asked, " or int8, not of ",
                     std::string(DTypeName(cache)), "; set kv_dtype"));
  }
  return absl::OkStatus();
}

}  // namespace penstock
