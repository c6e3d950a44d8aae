// SentencePiece's own normalization: rewriting by a charsmap, white space, the blank in front.
// Owns the rules. Must not know ids.
// Threads: immutable.
#pragma once

#include <memory>
#include <optional>

#include "text/byte_trie.h"
#include "text/charsmap.h"
#include "text/normalizer.h"

namespace penstock {

struct SentencePieceNormalizerConfig {
  std::optional<Charsmap> charsmap;
  std::shared_ptr<const ByteTrie> kept;  // strings that stay as they are; nullptr: none
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;  // blanks become U+2581
  bool whitespace_as_suffix = false;
};

std::unique_ptr<Normalizer> MakeSentencePieceNormalizer(SentencePieceNormalizerConfig config);

}  // namespace penstock
