// The tokens of words seen before: a table of fixed size that each thread has, in which a new word
// takes the place of an old one.
// Owns the entries. Must not know what a word is.
// Threads: an object per thread.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "penstock/types.h"

namespace penstock {

class WordCache {
 public:
  static constexpr size_t kMaxWordBytes = 30;
  static constexpr size_t kMaxTokens = 7;

  static WordCache& OfThisThread() {
    thread_local WordCache cache;
    return cache;
  }
  /// Appends the tokens of `word`; false where they are not known. `owner` tells vocabularies
  /// apart, is not 0 and is never used again.
  bool Append(uint32_t owner, std::string_view word, std::vector<TokenId>* ids) {
    const Entry& entry = entries_[Slot(owner, word)];
    if (entry.owner != owner || entry.word_bytes != word.size() ||
        std::memcmp(entry.word, word.data(), word.size()) != 0) {
      return false;
    }
    ids->insert(ids->end(), entry.tokens, entry.tokens + entry.num_tokens);
    return true;
  }
  /// Words and tokens over the limits above are not kept.
  void Keep(uint32_t owner, std::string_view word, absl::Span<const TokenId> ids);

 private:
  struct Entry {
    uint32_t owner = 0;
    uint8_t word_bytes = 0;
    uint8_t num_tokens = 0;
    char word[kMaxWordBytes];
    TokenId tokens[kMaxTokens];
  };
  static_assert(sizeof(Entry) == 64);
  static constexpr int kSlotBits = 15;

  WordCache() : entries_(size_t{1} << kSlotBits) {}
  static size_t Slot(uint32_t owner, std::string_view word) {
    uint64_t hash = owner * 0x9E3779B97F4A7C15u + word.size();
    const char* p = word.data();
    size_t left = word.size();
    for (; left >= 8; left -= 8, p += 8) hash = Mix(hash, p, 8);
    if (left > 0) hash = Mix(hash, p, left);
    return static_cast<size_t>(hash >> (64 - kSlotBits));
  }
  static uint64_t Mix(uint64_t hash, const char* bytes, size_t count) {
    uint64_t value = 0;
    std::memcpy(&value, bytes, count);
    hash = (hash ^ value) * 0xD6E8FEB86659FD93u;
    return hash ^ hash >> 32;
  }

  std::vector<Entry> entries_;
};

}  // namespace penstock
