// Token ids of one stream to text, piece by piece; never emits half a code point.
// Owns the bytes that wait for their completion. Must not know stop strings or the wire.
// Threads: confined to its stream.
#pragma once

#include <string>
#include <vector>

#include "penstock/tokenizer.h"

namespace penstock {

class Detokenizer {
 public:
  /// `tokenizer` outlives this. `kept`: special tokens that are not skipped.
  Detokenizer(const Tokenizer* tokenizer, bool skip_special, std::vector<TokenId> kept = {});
  /// The complete code points that `id` finishes; "" while one is incomplete. Bytes that can never
  /// become UTF-8 are U+FFFD.
  std::string Append(TokenId id);
  /// What is still held back at the end of the stream, with U+FFFD for an incomplete code point.
  std::string Finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::vector<TokenId> kept_;
  bool first_ = true;
  std::string pending_;  // bytes of an incomplete code point: at most three
};

}  // namespace penstock
