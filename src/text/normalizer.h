// What is done to a text before it is split: the "normalizer" of a tokenizer.json.
// Owns its compiled patterns. Must not know tokens.
// Threads: immutable.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "absl/status/statusor.h"

namespace penstock {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  /// `text` is valid UTF-8 and stays so.
  virtual void Apply(std::string* text) const = 0;
};

/// INVALID_ARGUMENT for a malformed description, UNIMPLEMENTED (by name) for a type that is not
/// supported.
absl::StatusOr<std::unique_ptr<Normalizer>> MakeNormalizer(const nlohmann::json& config);
/// Of a type without options, such as "NFC".
absl::StatusOr<std::unique_ptr<Normalizer>> MakeNormalizerNamed(const std::string& type);

}  // namespace penstock
