// What can only be written: the one text that a grammar leaves next, and the tokens with which the
// tokenizer writes it.
// Owns what it found for places in grammars (bounded). Must not know engines or requests.
// Threads: thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "penstock/tokenizer.h"
#include "text/grammar/matcher.h"
#include "text/grammar/token_masks.h"

namespace penstock::grammar {

class ForcedText {
 public:
  /// `first` are the masks of an output's first token. `tokenizer` outlives this.
  ForcedText(const Tokenizer* tokenizer, std::shared_ptr<TokenMasks> masks,
             std::shared_ptr<TokenMasks> first)
      : tokenizer_(tokenizer), masks_(std::move(masks)), first_(std::move(first)) {}

  /// The tokens of the only text that may follow, as far as they are sure: none where there is a
  /// choice, and none that another token could begin in and end behind the text. `before`: the
  /// output's tokens so far.
  std::vector<TokenId> Find(Matcher& matcher, absl::Span<const TokenId> before);

 private:
  struct Written {
    TokenId id;
    size_t size;  // of its piece
  };
  /// Goes on in `at` as far as one byte alone can follow.
  static std::string OnlyText(StackMachine& machine, ConfigSet& at);
  std::vector<Written> Write(std::string_view text, absl::Span<const TokenId> before) const;
  /// Of text without special tokens; nothing where the tokenizer cannot write it here.
  std::vector<Written> WritePlain(const std::string& text, const std::string& context,
                                  bool is_first) const;
  /// Whether a token that begins with `rest`, the end of the text, may go on behind it.
  bool MayCross(StackMachine& machine, const ConfigSet& end, std::string_view rest) const;

  const Tokenizer* const tokenizer_;
  const std::shared_ptr<TokenMasks> masks_, first_;
  std::mutex mutex_;  // guards from here
  absl::flat_hash_map<MaskMemo::Key, std::vector<TokenId>> found_;
};

}  // namespace penstock::grammar
