#include "model/unread_tensors.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/strings.h"
#include "model/prediction_layers.h"

namespace penstock {
namespace {

bool IsNumber(std::string_view part) {
  return !part.empty() && part.find_first_not_of("0123456789") == part.npos;
}

/// The first three parts of a name, numbers as "*".
std::string GroupOf(std::string_view tensor) {
  std::string group;
  size_t begin = 0;
  for (int parts = 0; parts < 3 && begin != tensor.npos; ++parts) {
    const size_t dot = tensor.find('.', begin);
    const std::string_view part = tensor.substr(begin, dot == tensor.npos ? dot : dot - begin);
    absl::StrAppend(&group, group.empty() ? "" : ".", IsNumber(part) ? "*" : ToAbsl(part));
    begin = dot == tensor.npos ? dot : dot + 1;
  }
  return group;
}

struct InLayer {
  std::string_view stack;  // "model.layers." of "model.layers.7.mlp.up_proj.weight"
  int64_t layer = -1;      // 7; -1: the tensor is of no layer
};

InLayer LayerOf(std::string_view tensor) {
  for (size_t begin = tensor.find('.'); begin != tensor.npos; begin = tensor.find('.', begin)) {
    ++begin;
    const std::string_view part = tensor.substr(begin, tensor.find('.', begin) - begin);
    InLayer found{tensor.substr(0, begin)};
    if (IsNumber(part) && absl::SimpleAtoi(ToAbsl(part), &found.layer)) return found;
  }
  return {};
}

/// The module that a tensor is of: "lm_head" of "lm_head.bias"; empty: it is its own.
std::string_view ModuleOf(std::string_view tensor) {
  const size_t dot = tensor.rfind('.');
  return dot == tensor.npos ? std::string_view() : tensor.substr(0, dot);
}

/// What frameworks keep beside weights: masks and frequencies that follow from the config, scales
/// of activations and of a cache in 8 bits, for those who compute so.
bool DoesNothing(std::string_view tensor) {
  constexpr std::string_view kEndings[] = {
      ".inv_freq",     ".cos_cached",     ".sin_cached",        ".attn.bias",
      ".masked_bias",  ".attention.bias", ".position_ids",      ".k_scale",
      ".v_scale",      ".kv_scale",       ".input_scale",       ".output_scale",
      ".q_scale",      ".prob_scale",     ".input_zero_point",  ".k_zero_point",
      ".v_zero_point", ".weight_shape",   ".input_global_scale"};
  return std::any_of(std::begin(kEndings), std::end(kEndings),
                     [&](std::string_view ending) { return tensor.ends_with(ending); });
}

bool IsZero(absl::Span<const std::byte> data) {
  return std::all_of(data.begin(), data.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

absl::StatusOr<UnreadTensors> SortUnread(absl::Span<const StoredTensor> stored,
                                         int64_t num_layers) {
  std::set<std::string_view> stacks, modules;  // of which something was read
  for (const StoredTensor& tensor : stored) {
    if (!tensor.read) continue;
    const InLayer in = LayerOf(tensor.name);
    if (in.layer >= 0) stacks.insert(in.stack);
    modules.insert(ModuleOf(tensor.name));
  }
  modules.erase("");
  UnreadTensors unread;
  for (const StoredTensor& tensor : stored) {
    if (tensor.read) continue;
    const std::string ahead = PredictionLayerOf(tensor.name, num_layers);
    if (ahead.empty() && !DoesNothing(tensor.name)) {
      const bool beside = modules.contains(ModuleOf(tensor.name));
      const InLayer in = LayerOf(tensor.name);
      const bool within = in.layer >= 0 && in.layer < num_layers && stacks.contains(in.stack);
      if ((beside || within) && !IsZero(tensor.data)) {
        return absl::UnimplementedError(absl::StrCat(
            "tensor \"", tensor.name, "\" is of ",
            within ? absl::StrCat("layer ", in.layer) : ToAbsl(ModuleOf(tensor.name)),
            ", and a network as the config describes it has no use for it: not supported"));
      }
    }
    TensorShare& share =
        ahead.empty() ? unread.others[GroupOf(tensor.name)] : unread.prediction_layers[ahead];
    ++share.num_tensors;
    share.num_bytes += static_cast<int64_t>(tensor.data.size());
  }
  return unread;
}

}  // namespace penstock
