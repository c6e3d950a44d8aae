#include "engine/ngram_match.h"

#include <algorithm>
#include <bit>

namespace penstock {
namespace {

constexpr size_t kSmallestTable = 256;

uint64_t MixNgram(uint64_t seed, const TokenId* last, int32_t count) {
  uint64_t h = seed;
  for (int32_t i = 0; i < count; ++i) {
    h = (h ^ static_cast<uint32_t>(last[-i])) * 0x9E3779B97F4A7C15ULL;
    h ^= h >> 32;
  }
  return h;
}

}  // namespace

size_t NgramIndex::Place(const TokenId* last) const {
  return MixNgram(0, last, min_match_) & (table_.size() - 1);
}

void NgramIndex::Rebuild(absl::Span<const TokenId> tokens) {
  table_.assign(std::max(kSmallestTable, std::bit_ceil(4 * tokens.size())), 0);
  for (int64_t end = min_match_; end <= num_seen_; ++end)
    table_[Place(&tokens[end - 1])] = static_cast<int32_t>(end);
}

void NgramIndex::Advance(absl::Span<const TokenId> tokens) {
  const int64_t i = num_seen_;
  if (2 * static_cast<size_t>(i + 1) > table_.size()) Rebuild(tokens);
  const TokenId token = tokens[i];
  num_seen_ = i + 1;
  if (match_.length > 0 && tokens[match_.next] == token) {
    ++match_.next;
    match_.length = std::min(match_.length + 1, kLongestMatch);
  } else {
    match_ = {};
  }
  if (num_seen_ < min_match_) return;
  int32_t& entry = table_[Place(&tokens[i])];
  if (match_.length == 0 && entry > 0) {
    int32_t length = 0;
    while (length < std::min(entry, kLongestMatch) &&
           tokens[entry - 1 - length] == tokens[i - length])
      ++length;
    if (length >= min_match_) match_ = {entry, length};
  }
  entry = static_cast<int32_t>(num_seen_);
}

TokenId NgramIndex::Predict(absl::Span<const TokenId> tokens, int32_t ahead) const {
  const int64_t period = num_seen_ - match_.next;
  return tokens[match_.next + ahead % period];
}

size_t OutputHistory::Place(const Hash128& root, const TokenId* last) const {
  return MixNgram(root.lo, last, min_match_) & (table_.size() - 1);
}

bool OutputHistory::Holds(const Hash128& root, int64_t position) const {
  return position >= 0 && position < end_ && position >= end_ - capacity_ &&
         roots_[position & (capacity_ - 1)] == root;
}

void OutputHistory::Append(const Hash128& root, absl::Span<const TokenId> tokens) {
  if (static_cast<int64_t>(tokens.size()) > capacity_)
    tokens.remove_prefix(tokens.size() - capacity_);
  if (static_cast<int64_t>(tokens.size()) <= min_match_) return;  // nothing would follow a match
  if (tokens_.empty()) {
    tokens_.resize(capacity_);
    roots_.resize(capacity_);
    table_.assign(2 * capacity_, 0);
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens_[end_ & (capacity_ - 1)] = tokens[i];
    roots_[end_ & (capacity_ - 1)] = root;
    ++end_;
    if (static_cast<int32_t>(i) + 1 >= min_match_) table_[Place(root, &tokens[i])] = end_;
  }
}

void OutputHistory::Follow(const Hash128& root, absl::Span<const TokenId> tokens,
                           NgramMatch& match) const {
  if (end_ == 0) return;
  if (match.length > 0 && Holds(root, match.next) && At(match.next) == tokens.back()) {
    ++match.next;
    match.length = std::min(match.length + 1, kLongestMatch);
    return;
  }
  match = {};
  const auto known = static_cast<int32_t>(tokens.size());
  if (known < min_match_) return;
  const int64_t entry = table_[Place(root, &tokens.back())];
  int32_t length = 0;
  while (length < std::min(known, kLongestMatch) && Holds(root, entry - 1 - length) &&
         At(entry - 1 - length) == tokens[known - 1 - length])
    ++length;
  if (length >= min_match_) match = {entry, length};
}

TokenId OutputHistory::Predict(const Hash128& root, const NgramMatch& match, int32_t ahead) const {
  const int64_t position = match.next + ahead;
  return Holds(root, position) ? At(position) : -1;
}

}  // namespace penstock
