#include "text/added_tokens.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "base/utf8.h"
#include "text/unicode.h"

namespace penstock {
namespace {

// The code point that ends at `end`.
char32_t CodePointBefore(std::string_view text, size_t end, size_t* begin) {
  size_t pos = end - 1;
  while (pos > 0 && (static_cast<uint8_t>(text[pos]) & 0xC0) == 0x80) --pos;
  *begin = pos;
  return DecodeUtf8(text, pos).value;
}

bool IsSingleWord(std::string_view text, size_t begin, size_t end) {
  size_t unused = 0;
  if (begin > 0 && unicode::IsWord(CodePointBefore(text, begin, &unused))) return false;
  return end >= text.size() || !unicode::IsWord(DecodeUtf8(text, end).value);
}

size_t SkipSpaceLeft(std::string_view text, size_t begin, size_t least) {
  while (begin > least) {
    size_t previous = 0;
    if (!unicode::IsWhitespace(CodePointBefore(text, begin, &previous)) || previous < least) break;
    begin = previous;
  }
  return begin;
}

size_t SkipSpaceRight(std::string_view text, size_t end) {
  while (end < text.size()) {
    const DecodedCodePoint c = DecodeUtf8(text, end);
    if (!unicode::IsWhitespace(c.value)) break;
    end += c.length;
  }
  return end;
}

}  // namespace

void OverrideAddedTokens(const std::vector<AddedToken>& more, std::vector<AddedToken>* tokens) {
  if (more.empty()) return;
  absl::flat_hash_set<std::string_view> contents;
  absl::flat_hash_set<TokenId> ids;
  for (const AddedToken& token : more) {
    contents.insert(token.content);
    ids.insert(token.id);
  }
  std::vector<AddedToken> all;
  for (AddedToken& token : *tokens) {
    if (!contents.contains(token.content) && !ids.contains(token.id)) {
      all.push_back(std::move(token));
    }
  }
  all.insert(all.end(), more.begin(), more.end());
  *tokens = std::move(all);
}

AddedTokenMatcher::AddedTokenMatcher() : token_at_(1, -1) {}

void AddedTokenMatcher::Add(std::string_view pattern, const AddedToken& token) {
  // A part of a character stands in the middle of others, and what is left of those is no text.
  if (pattern.empty() || !IsValidUtf8(pattern)) return;
  starts_[static_cast<uint8_t>(pattern.front())] = true;
  int32_t node = 0;
  for (const char c : pattern) {
    const uint64_t edge = static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(c);
    const auto [it, added] = edges_.try_emplace(edge, static_cast<int32_t>(token_at_.size()));
    node = it->second;
    if (added) token_at_.push_back(-1);
  }
  if (token_at_[node] >= 0) return;
  token_at_[node] = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
}

std::optional<AddedTokenMatcher::Found> AddedTokenMatcher::LongestAt(std::string_view text,
                                                                     size_t pos) const {
  std::optional<Found> longest;
  int32_t node = 0;
  for (size_t i = pos; i < text.size(); ++i) {
    const auto it = edges_.find(static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(text[i]));
    if (it == edges_.end()) break;
    node = it->second;
    if (token_at_[node] >= 0) longest = Found{&tokens_[token_at_[node]], i + 1};
  }
  return longest;
}

std::vector<AddedTokenSpan> AddedTokenMatcher::Split(std::string_view text) const {
  std::vector<AddedTokenSpan> spans;
  size_t done = 0;
  for (size_t pos = 0; pos < text.size();) {
    const std::optional<Found> found =
        starts_[static_cast<uint8_t>(text[pos])] ? LongestAt(text, pos) : std::nullopt;
    if (!found) {
      ++pos;
      continue;
    }
    const AddedToken& token = *found->token;
    size_t begin = pos;
    size_t end = found->end;
    pos = end;
    if (token.single_word && !IsSingleWord(text, begin, end)) continue;
    if (token.lstrip) begin = SkipSpaceLeft(text, begin, std::min(done, begin));
    if (token.rstrip) end = SkipSpaceRight(text, end);
    if (done < begin) spans.push_back({done, begin, std::nullopt});
    spans.push_back({begin, end, token.id});
    done = end;
  }
  if (done < text.size()) spans.push_back({done, text.size(), std::nullopt});
  return spans;
}

}  // namespace penstock
