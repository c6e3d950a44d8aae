#include "model/prediction_layers.h"

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
    for (const std::string_view layers : {std::string_view("layers."), std::string_view("blk.")}) {
      if (!rest.starts_with(layers)) continue;
      const std::string_view number =
          rest.substr(layers.size(), rest.find('.', layers.size()) - layers.size());
      int64_t layer = 0;
      if (!absl::SimpleAtoi(ToAbsl(number), &layer) || layer < num_layers) continue;
      return std::string(tensor.substr(0, prefix.size() + layers.size() + number.size()));
    }
  }
  return "";
}

}  // namespace penstock
