// What an output must look like, by tokens: the seam between grammars and the engine.
// Owns nothing. Must not know text, tensors or the wire.
// Threads: a TokenGrammar is thread-safe; a TokenMatcher is confined to one thread at a time.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "penstock/types.h"

namespace penstock {

/// Where one output stands in its grammar.
class TokenMatcher {
 public:
  virtual ~TokenMatcher() = default;
  /// Goes on by a token; false, and nothing changes, where the grammar does not allow it.
  virtual bool Accept(TokenId id) = 0;
  /// Takes the last accepted tokens back, 256 at most: drafts are fewer.
  virtual void Rollback(int32_t num_tokens) = 0;
  virtual bool finished() const = 0;  // the output may end here
  virtual bool ended() const = 0;     // and nothing can follow
  /// OK, or which limit the ways to read the output have passed, by the last Accept or FillMask:
  /// nothing is known of what may come, and masks are empty.
  virtual absl::Status too_ambiguous() const { return absl::OkStatus(); }
  /// The tokens that come next where only one text can, as the tokenizer would write it; none where
  /// there is a choice. Others might write the same text: these are the ones to draw. Valid until the
  /// next call.
  virtual absl::Span<const TokenId> Forced() { return {}; }
  /// Bit i: Accept(i) would be true. Words for at least the model's vocabulary.
  virtual void FillMask(absl::Span<uint32_t> words) = 0;
};

class TokenGrammar {
 public:
  virtual ~TokenGrammar() = default;
  virtual std::unique_ptr<TokenMatcher> Start() const = 0;
};

}  // namespace penstock
