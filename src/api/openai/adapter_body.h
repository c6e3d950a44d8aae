// What a client sends to load or unload an adapter, by vLLM's names.
// Owns nothing. Must not know adapters.
// Threads: n/a; a pure function.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace penstock {

struct AdapterBody {
  std::string name, path;
  std::optional<std::string> base;
  bool in_place = false;
};

/// Members that are not known are let be, as vLLM does. `loads`: lora_path must be there.
absl::StatusOr<AdapterBody> ReadAdapterBody(std::string_view text, bool loads);

}  // namespace penstock
