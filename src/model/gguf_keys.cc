#include "model/gguf_keys.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/strings.h"
#include "format/gguf.h"
#include "model/gguf_architecture.h"

namespace penstock {
namespace {

/// Families of keys that change what a network computes.
constexpr std::string_view kChangingPrefixes[] = {
    "attention.", "rope.", "expert", "ssm.",        "swiglu", "hyper_connection.", "ple.",
    "moe",        "wkv.",  "hrm.",   "activation.", "altup.", "attn_res.",         "adapters."};
constexpr std::string_view kChangingSuffixes[] = {"_scale", "softcapping", "_interval", "_step"};
constexpr std::string_view kChangingKeys[] = {"embedding_length_out",
                                              "embedding_length_per_layer_input",
                                              "features_length",
                                              "leading_dense_block_count",
                                              "hidden_activation",
                                              "swin_norm",
                                              "pooling_type",
                                              "use_parallel_residual",
                                              "rescale_every_n_layers",
                                              "token_shift_count",
                                              "num_loops",
                                              "hash_layer_count",
                                              "decoder_block_count",
                                              "n_deepstack_layers"};

/// Keys that only repeat or describe.
constexpr std::string_view kHarmlessKeys[] = {"vocab_size", "tensor_data_layout",
                                              "rope.scaling.finetuned"};

/// Numbers that change nothing; neither does 0.
struct NeutralNumber {
  std::string_view key;
  double value;
};
constexpr NeutralNumber kNeutralNumbers[] = {{"expert_weights_scale", 1},
                                             {"logit_scale", 1},
                                             {"embedding_scale", 1},
                                             {"residual_scale", 1},
                                             {"attention.output_scale", 1},
                                             {"attention.value_scale", 1},
                                             {"expert_group_count", 1},
                                             {"expert_group_used_count", 1},
                                             {"interleave_moe_layer_step", 1},
                                             {"moe_every_n_layers", 1},
                                             {"full_attention_interval", 1},
                                             {"num_loops", 1},
                                             {"pooling_type", 3},  // the last position
                                             {"rope.scaling.factor", 1},
                                             {"rope.scale_linear", 1},
                                             {"rope.scaling.attn_factor", 1},
                                             {"rope.scaling.yarn_ext_factor", 1},
                                             {"rope.scaling.yarn_attn_factor", 1}};

template <class List>
bool Lists(const List& list, std::string_view key) {
  return std::find(std::begin(list), std::end(list), key) != std::end(list);
}

bool Changes(std::string_view key) {
  for (const std::string_view prefix : kChangingPrefixes) {
    if (absl::StartsWith(ToAbsl(key), ToAbsl(prefix))) return true;
  }
  for (const std::string_view suffix : kChangingSuffixes) {
    if (absl::EndsWith(ToAbsl(key), ToAbsl(suffix))) return true;
  }
  return Lists(kChangingKeys, key);
}

double NumberAt(const GgufValue& value, uint64_t i) {
  return value.is_integer() ? static_cast<double>(value.Int(i)) : value.Float(i);
}

/// The number that a key says, of every layer if of several; nullopt where it is absent or no such.
std::optional<double> NumberOf(const GgufKeys& keys, std::string_view key) {
  const GgufValue* value = keys.file().Find(keys.Key(key));
  if (value == nullptr || value->type == GgufType::kString || value->size == 0) return std::nullopt;
  for (uint64_t i = 1; i < value->size; ++i) {
    if (NumberAt(*value, i) != NumberAt(*value, 0)) return std::nullopt;
  }
  return NumberAt(*value, 0);
}

double HeadDim(const GgufKeys& keys) {
  const double heads = std::max(NumberOf(keys, "attention.head_count").value_or(1), 1.0);
  return NumberOf(keys, "attention.key_length")
      .value_or(NumberOf(keys, "embedding_length").value_or(0) / heads);
}

/// Whether a key says what would be so without it.
bool SaysTheUsual(const GgufKeys& keys, std::string_view key) {
  const GgufValue* value = keys.file().Find(keys.Key(key));
  if (value->is_array && value->size == 0) return true;
  const std::optional<double> number = NumberOf(keys, key);
  if (!number) return false;
  if (*number == 0) return true;
  for (const NeutralNumber& neutral : kNeutralNumbers) {
    if (neutral.key == key && neutral.value == *number) return true;
  }
  const auto same = [&](std::string_view other, double absent) {
    return std::fabs(*number - NumberOf(keys, other).value_or(absent)) <= 1e-4 * *number;
  };
  if (key == "attention.sliding_window")
    return *number >= NumberOf(keys, "context_length").value_or(HUGE_VAL);
  if (key == "attention.scale") return std::fabs(*number * std::sqrt(HeadDim(keys)) - 1) < 1e-4;
  if (key == "attention.key_length_swa") return same("attention.key_length", HeadDim(keys));
  if (key == "attention.value_length_swa") return same("attention.value_length", HeadDim(keys));
  if (key == "rope.freq_base_swa") return same("rope.freq_base", 10000.0);
  if (key == "rope.dimension_count_swa") return same("rope.dimension_count", HeadDim(keys));
  return false;
}

/// Keys without effect beside what others of the file say.
bool IsMoot(const GgufKeys& keys, const GgufArchitecture& arch, std::string_view key) {
  if (Lists(kHarmlessKeys, key)) return true;
  if (key == "attention.sliding_window_pattern") {
    return keys.file().Find(keys.Key("attention.sliding_window")) == nullptr ||
           SaysTheUsual(keys, "attention.sliding_window");
  }
  // Of text alone every section counts the same positions; GLM's order of rows depends on them.
  if (key == "rope.dimension_sections") return arch.name != "glm4";
  if (key == "attention.layer_norm_epsilon" || key == "attention.layer_norm_rms_epsilon")
    return true;  // of the kind of norm that the network does not have
  if (key == "expert_shared_count") return arch.experts == GgufExperts::kQwen;
  if (!absl::StartsWith(ToAbsl(key), "rope.scaling.")) return false;
  const auto type = keys.file().String(keys.Key("rope.scaling.type"));
  const bool plain = type.ok() && type->value_or("none") == "none";
  return plain && (absl::StrContains(ToAbsl(key), "yarn") || absl::EndsWith(ToAbsl(key), "length"));
}

}  // namespace

std::string GgufKeys::Key(std::string_view key) const {
  return absl::StrCat(ToAbsl(prefix_), ".", ToAbsl(key));
}

std::string GgufKeys::Asked(std::string_view key) {
  asked_.emplace(key);
  return Key(key);
}

template <class T>
std::optional<T> GgufKeys::Kept(const absl::StatusOr<std::optional<T>>& value) {
  if (value.ok()) return *value;
  Keep(value.status());
  return std::nullopt;
}

const GgufValue* GgufKeys::Find(std::string_view key) { return file_.Find(Asked(key)); }

std::optional<int64_t> GgufKeys::Int(std::string_view key) {
  const GgufValue* value = Find(key);
  if (value != nullptr && value->is_array && value->is_integer() && value->size > 0) {
    for (uint64_t i = 1; i < value->size; ++i) {
      if (value->Int(i) != value->Int(0)) {
        Fail(key, "expected the same number for every layer");
        return std::nullopt;
      }
    }
    return value->Int(0);
  }
  return Kept(file_.Int(Key(key)));
}

int64_t GgufKeys::RequiredInt(std::string_view key) {
  const std::optional<int64_t> value = Int(key);
  if (!value) Fail(key, "is missing, expected an integer");
  return value.value_or(0);
}

std::optional<double> GgufKeys::Float(std::string_view key) {
  const std::optional<double> value = Kept(file_.Float(Asked(key)));
  if (value && !std::isfinite(*value)) Fail(key, "expected a finite number");
  return value;
}

std::optional<std::string_view> GgufKeys::String(std::string_view key) {
  return Kept(file_.String(Asked(key)));
}

std::optional<bool> GgufKeys::Bool(std::string_view key) { return Kept(file_.Bool(Asked(key))); }

void GgufKeys::Fail(std::string_view key, std::string_view problem) {
  Keep(absl::InvalidArgumentError(
      absl::StrCat(file_.paths().front(), ": ", Key(key), ": ", ToAbsl(problem))));
}

void GgufKeys::Keep(const absl::Status& status) {
  if (status_.ok()) status_ = status;
}

std::vector<std::string> GgufKeys::Unread() const {
  std::vector<std::string> out;
  const std::string prefix = Key("");
  const auto& metadata = file_.contents().metadata;
  for (auto it = metadata.lower_bound(prefix); it != metadata.end(); ++it) {
    if (!absl::StartsWith(ToAbsl(it->first), prefix)) break;
    const std::string_view key = it->first.substr(prefix.size());
    if (!asked_.contains(key)) out.emplace_back(key);
  }
  return out;
}

std::vector<std::string> SortUnreadKeys(GgufKeys& keys, const GgufArchitecture& arch) {
  std::vector<std::string> ignored;
  for (const std::string& key : keys.Unread()) {
    if (Changes(key) && !IsMoot(keys, arch, key) && !SaysTheUsual(keys, key)) {
      keys.Fail(key, absl::StrCat("is not supported for ", ToAbsl(arch.name)));
    } else {
      ignored.push_back(keys.Key(key));
    }
  }
  return ignored;
}

}  // namespace penstock
