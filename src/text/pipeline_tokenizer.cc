#include "text/pipeline_tokenizer.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "base/utf8.h"
#include "text/byte_level_pretokenizer.h"
#include "text/word_cache.h"

namespace penstock {
namespace {

uint32_t NextCacheOwner() {
  static std::atomic<uint32_t> next = 1;
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

PipelineTokenizer::PipelineTokenizer(TokenizerParts parts)
    : parts_(std::move(parts)), cache_owner_(NextCacheOwner()) {
  vocab_size_ = parts_.model->vocab_size();
  for (const AddedToken& token : parts_.added_tokens) {
    std::string text = token.content;
    if (token.normalized && parts_.normalizer != nullptr) parts_.normalizer->Apply(&text);
    (token.normalized ? normalized_matcher_ : raw_matcher_).Add(text, token);
    added_texts_.insert_or_assign(token.id, std::move(text));
    added_ids_.insert_or_assign(token.content, token.id);
    if (token.special) special_.insert(token.content);
    vocab_size_ = std::max(vocab_size_, token.id + 1);
  }
}

std::vector<TokenId> PipelineTokenizer::Encode(std::string_view text, bool add_special) const {
  std::string repaired;
  if (!IsValidUtf8(text)) {
    repaired = RepairUtf8(text);
    text = repaired;
  }
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 4 + 8);
  for (const AddedTokenSpan& span : raw_matcher_.Split(text)) {
    if (span.id) {
      ids.push_back(*span.id);
    } else {
      EncodeSegment(text.substr(span.begin, span.end - span.begin), span.begin == 0, &ids);
    }
  }
  if (add_special) AddSpecial(&ids);
  return ids;
}

void PipelineTokenizer::AddSpecial(std::vector<TokenId>* ids) const {
  if (parts_.post_processor) parts_.post_processor->Apply(ids);
}

absl::StatusOr<std::vector<TokenId>> PipelineTokenizer::JoinPair(absl::Span<const TokenId> first,
                                                                 absl::Span<const TokenId> second,
                                                                 int32_t* second_begin) const {
  return parts_.post_processor ? parts_.post_processor->Join(first, second, second_begin)
                               : Tokenizer::JoinPair(first, second, second_begin);
}

void PipelineTokenizer::EncodeSegment(std::string_view segment, bool starts_input,
                                      std::vector<TokenId>* ids) const {
  std::string normalized;
  if (parts_.normalizer != nullptr) {
    normalized = segment;
    parts_.normalizer->Apply(&normalized);
    segment = normalized;
  }
  for (const AddedTokenSpan& span : normalized_matcher_.Split(segment)) {
    if (span.id) {
      ids->push_back(*span.id);
    } else {
      EncodeWords(segment.substr(span.begin, span.end - span.begin),
                  starts_input && span.begin == 0, ids);
    }
  }
}

void PipelineTokenizer::EncodeWords(std::string_view text, bool starts_input,
                                    std::vector<TokenId>* ids) const {
  if (parts_.pre_tokenizer == nullptr) {
    EncodeWord(text, ids);
    return;
  }
  if (const ByteLevelPreTokenizer* byte_level = parts_.pre_tokenizer->as_byte_level()) {
    EncodeByteLevelWords(*byte_level, text, ids);
    return;
  }
  PreTokenized words{std::string(text), {{0, text.size()}}, starts_input};
  parts_.pre_tokenizer->Apply(&words);
  for (const TextRange& word : words.pieces) EncodeWord(words.Piece(word), ids);
}

// The cache is asked for the words as they are in the text.
void PipelineTokenizer::EncodeByteLevelWords(const ByteLevelPreTokenizer& byte_level,
                                             std::string_view text,
                                             std::vector<TokenId>* ids) const {
  WordCache& cache = WordCache::OfThisThread();
  byte_level.ForEachWord(text, [&](std::string_view word) {
    if (cache.Append(cache_owner_, word, ids)) return;
    const size_t before = ids->size();
    byte_level.ForEachPart(word, [&](std::string_view part) { parts_.model->Tokenize(part, ids); });
    cache.Keep(cache_owner_, word, absl::MakeConstSpan(*ids).subspan(before));
  });
}

void PipelineTokenizer::EncodeWord(std::string_view word, std::vector<TokenId>* ids) const {
  WordCache& cache = WordCache::OfThisThread();
  while (!word.empty()) {
    const std::string_view part = word.substr(0, parts_.model->IndependentPrefix(word));
    word.remove_prefix(part.size());
    if (cache.Append(cache_owner_, part, ids)) continue;
    const size_t before = ids->size();
    parts_.model->Tokenize(part, ids);
    cache.Keep(cache_owner_, part, absl::MakeConstSpan(*ids).subspan(before));
  }
}

const std::string* PipelineTokenizer::TokenOf(TokenId id) const {
  const auto it = added_texts_.find(id);
  return it != added_texts_.end() ? &it->second : parts_.model->IdToToken(id);
}

std::string PipelineTokenizer::Decode(absl::Span<const TokenId> ids, bool skip_special) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const TokenId id : ids) {
    const std::string* token = TokenOf(id);
    if (token != nullptr && !(skip_special && is_special(id))) tokens.push_back(*token);
  }
  if (tokens.empty()) return "";
  parts_.decoder->Apply(&tokens);
  std::string text;
  for (const std::string& token : tokens) text += token;
  return IsValidUtf8(text) ? text : RepairUtf8(text);
}

std::string PipelineTokenizer::Piece(TokenId id) const {
  const std::string* token = TokenOf(id);
  return token == nullptr ? "" : parts_.decoder->Piece(*token);
}

bool PipelineTokenizer::is_special(TokenId id) const {
  const std::string* token = TokenOf(id);
  return token != nullptr && special_.contains(*token);
}

std::optional<TokenId> PipelineTokenizer::TokenToId(std::string_view token) const {
  const auto it = added_ids_.find(std::string(token));
  return it != added_ids_.end() ? std::optional<TokenId>(it->second)
                                : parts_.model->TokenToId(token);
}

}  // namespace penstock
