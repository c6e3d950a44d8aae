// How tokens become text again: the "decoder" of a tokenizer.json.
// Owns its patterns. Must not know ids.
// Threads: immutable.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace penstock {

class TokenDecoder {
 public:
  virtual ~TokenDecoder() = default;
  /// Rewrites a whole sequence of tokens; joined, the result is the text.
  virtual void Apply(std::vector<std::string>* tokens) const = 0;
  /// What one token contributes somewhere after the first; may be half a code point.
  virtual std::string Piece(std::string token) const = 0;
  /// True where Apply drops one leading blank of the whole text that Piece keeps.
  virtual bool strips_first_space() const { return false; }
};

/// INVALID_ARGUMENT for a malformed description, UNIMPLEMENTED (by name) for a type that is not
/// supported.
absl::StatusOr<std::unique_ptr<TokenDecoder>> MakeTokenDecoder(const nlohmann::json& config);

/// For a tokenizer.json without a decoder: tokens with blanks between.
std::unique_ptr<TokenDecoder> MakeSpacedDecoder();

/// Tokens are bytes in the byte-level alphabet.
std::unique_ptr<TokenDecoder> MakeByteLevelDecoder();

}  // namespace penstock
