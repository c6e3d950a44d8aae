// GGUF metadata as the config.json that the same model has on the hub.
// Owns nothing. Must not know tokenizers or devices.
// Threads: value.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace penstock {

class Gguf;

/// The text of a config.json for ParseModelConfig. Frequency factors of single pairs of
/// dimensions, which GGUF keeps in tensors, become a rope of type longrope. Errors name the file,
/// the key and what was expected; what cannot be said in config.json is refused by name.
absl::StatusOr<std::string> GgufConfigJson(const Gguf& file);

/// The architecture's keys that the config.json leaves out: they change nothing, or nobody knows
/// what they are.
absl::StatusOr<std::vector<std::string>> GgufIgnoredKeys(const Gguf& file);

}  // namespace penstock
