// libFuzzer target: any bytes as a generation_config.json. Links penstock_service.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "service/generation_config.h"
#include "text/tokenizer_config.h"

namespace {

/// As far as it is there, a value is in its range also as the float that sampling takes.
void CheckRange(const std::optional<double>& value, float min, float max) {
  if (!value) return;
  const auto taken = static_cast<float>(*value);
  if (!(taken >= min && taken <= max)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto json = penstock::ParseJsonObject(text, "fuzz");
  if (!json.ok()) return 0;
  const auto defaults = penstock::ReadGenerationDefaults(*json, "fuzz");
  if (!defaults.ok()) return 0;
  CheckRange(defaults->temperature, 0, 2);
  CheckRange(defaults->top_p, 1e-38f, 1);
  CheckRange(defaults->min_p, 0, 1);
  CheckRange(defaults->repetition_penalty, 1e-38f, 100);
  if (defaults->top_k.value_or(0) < -1 || defaults->top_k.value_or(0) > INT32_MAX) std::abort();
  if (defaults->max_tokens.value_or(1) < 1 || defaults->max_tokens.value_or(1) > INT32_MAX)
    std::abort();
  for (const penstock::TokenId id : defaults->eos_token_ids) {
    if (id < 0) std::abort();
  }
  return 0;
}
