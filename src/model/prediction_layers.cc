#include "model/prediction_layers.h"

#include <set>

#include "absl/strings/numbers.h"
#include "base/strings.h"

namespace penstock {

std::string PredictionLayerOf(std::string_view tensor, int64_t num_layers) {
  for (const std::string_view prefix :
       {std::string_view("language_model.model."), std::string_view("model.language_model."),
        std::string_view("language_model."), std::string_view("model."), std::string_view("")}) {
    if (!tensor.starts_with(prefix)) continue;
    const std::string_view rest = tensor.substr(prefix.size());
    if (rest.starts_with("mtp.")) return std::string(prefix) + "mtp";
    constexpr std::string_view kLayers = "layers.";
    if (!rest.starts_with(kLayers)) continue;
    const std::string_view number =
        rest.substr(kLayers.size(), rest.find('.', kLayers.size()) - kLayers.size());
    int64_t layer = 0;
    if (!absl::SimpleAtoi(ToAbsl(number), &layer) || layer < num_layers) continue;
    return std::string(tensor.substr(0, prefix.size() + kLayers.size() + number.size()));
  }
  return "";
}

std::vector<std::string> PredictionLayers(absl::Span<const std::string> tensors,
                                          int64_t num_layers) {
  std::set<std::string> layers;
  for (const std::string& tensor : tensors) {
    std::string layer = PredictionLayerOf(tensor, num_layers);
    if (!layer.empty()) layers.insert(std::move(layer));
  }
  return {layers.begin(), layers.end()};
}

}  // namespace penstock
