// How a text is cut into words before the model sees it: the "pre_tokenizer" of a tokenizer.json.
// Owns its compiled patterns. Must not know tokens.
// Threads: immutable.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "text/pattern.h"

namespace penstock {

/// A text on its way through the steps: the pieces lie in `text` in order, without overlap.
struct PreTokenized {
  std::string text;
  std::vector<TextRange> pieces;
  bool starts_input = false;  // `text` is the start of what was to be encoded

  std::string_view Piece(const TextRange& range) const {
    return std::string_view(text).substr(range.begin, range.end - range.begin);
  }
};

class ByteLevelPreTokenizer;

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  /// Cuts every piece further, and may rewrite it.
  virtual void Apply(PreTokenized* input) const = 0;
  /// Whether it leaves the text as it is and cuts each piece by what is in that piece alone.
  virtual bool only_cuts() const { return false; }
  /// Itself where it is a ByteLevelPreTokenizer.
  virtual const ByteLevelPreTokenizer* as_byte_level() const { return nullptr; }
};

/// INVALID_ARGUMENT for a malformed description, UNIMPLEMENTED (by name) for a type that is not
/// supported.
absl::StatusOr<std::unique_ptr<PreTokenizer>> MakePreTokenizer(const nlohmann::json& config);

}  // namespace penstock
