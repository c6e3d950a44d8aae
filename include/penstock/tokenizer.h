// Text to token ids and back.
// Owns nothing. Must not know engines, tensors or the wire.
// Threads: immutable after loading; every method may be called from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "penstock/types.h"

namespace penstock {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  /// `text` is any bytes; invalid UTF-8 becomes U+FFFD. With `add_special` the post-processor adds
  /// what a prompt starts (and ends) with. Added tokens found in the text are matched as such.
  virtual std::vector<TokenId> Encode(std::string_view text, bool add_special) const = 0;
  /// What Encode does with `add_special` to ids without it.
  virtual void AddSpecial(std::vector<TokenId>* ids) const { (void)ids; }
  /// Two texts, each encoded without special tokens, as one sequence with them. `second_begin`: from
  /// here on token types are 1; 0: nowhere. UNIMPLEMENTED where the tokenizer's rule is not supported.
  virtual absl::StatusOr<std::vector<TokenId>> JoinPair(absl::Span<const TokenId> first,
                                                        absl::Span<const TokenId> second,
                                                        int32_t* second_begin) const {
    std::vector<TokenId> ids(first.begin(), first.end());
    ids.insert(ids.end(), second.begin(), second.end());
    *second_begin = static_cast<int32_t>(first.size());
    return ids;
  }
  /// The decoder's whole-sequence result; bytes that are no UTF-8 become U+FFFD. Ids outside the
  /// vocabulary are skipped.
  virtual std::string Decode(absl::Span<const TokenId> ids, bool skip_special) const = 0;
  /// The bytes that `id` contributes in the middle of a sequence, before any UTF-8 repair; may be
  /// half a code point.
  virtual std::string Piece(TokenId id) const = 0;
  /// True where the decoder strips one leading space of the first piece of a text (SentencePiece
  /// style).
  virtual bool strips_first_space() const = 0;
  virtual bool is_special(TokenId id) const = 0;
  /// The id of a token by its exact content, e.g. "<|im_end|>".
  virtual std::optional<TokenId> TokenToId(std::string_view token) const = 0;
  /// Ids run over [0, vocab_size); may be smaller or larger than the model's own vocabulary.
  virtual int32_t vocab_size() const = 0;
};

}  // namespace penstock
