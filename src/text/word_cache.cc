#include "text/word_cache.h"

#include <algorithm>

namespace penstock {

void WordCache::Keep(uint32_t owner, std::string_view word, absl::Span<const TokenId> ids) {
  if (word.size() > kMaxWordBytes || ids.size() > kMaxTokens) return;
  Entry& entry = entries_[Slot(owner, word)];
  entry.owner = owner;
  entry.word_bytes = static_cast<uint8_t>(word.size());
  entry.num_tokens = static_cast<uint8_t>(ids.size());
  std::copy(word.begin(), word.end(), entry.word);
  std::copy(ids.begin(), ids.end(), entry.tokens);
}

}  // namespace penstock
