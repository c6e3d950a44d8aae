#include "text/bpe.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "text/merge_queue.h"

namespace penstock {
namespace {

constexpr size_t kShortWord = 48;  // symbols up to which scanning beats a queue
constexpr char32_t kLowCharacters = 0x180;

constexpr std::string_view kBlank = "\u2581";

constexpr uint64_t PairKey(TokenId left, TokenId right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Bpe>> Bpe::Make(BpeConfig config) {
  std::unique_ptr<Bpe> bpe(new Bpe(std::move(config)));
  ASSIGN_OR_RETURN(bpe->vocabulary_, Vocabulary::Build(std::move(bpe->config_.vocab)));
  bpe->config_.vocab.clear();
  RETURN_IF_ERROR(bpe->config_.token_ranks.empty() ? bpe->IndexMerges() : bpe->IndexRankedTokens());
  bpe->IndexCharacters();
  if (bpe->config_.unk_token) {
    bpe->unk_ = bpe->vocabulary_.Find(*bpe->config_.unk_token);
    if (!bpe->unk_) {
      return absl::InvalidArgumentError(absl::StrCat("\"unk_token\": \"", *bpe->config_.unk_token,
                                                     "\" is not in the vocabulary"));
    }
  }
  bpe->splits_before_blank_ = bpe->NothingJoinsBeforeBlank();
  bpe->whole_ = std::make_unique<std::atomic<uint8_t>[]>(bpe->vocabulary_.size());
  return bpe;
}

absl::Status Bpe::IndexMerges() {
  const size_t prefix = config_.continuing_subword_prefix.size();
  merges_.reserve(config_.merges.size());
  std::string joined;
  for (size_t rank = 0; rank < config_.merges.size(); ++rank) {
    const auto& [left, right] = config_.merges[rank];
    const std::optional<TokenId> left_id = vocabulary_.Find(left);
    const std::optional<TokenId> right_id = vocabulary_.Find(right);
    joined.assign(left);
    joined.append(right, std::min(prefix, right.size()), std::string::npos);
    const std::optional<TokenId> id = vocabulary_.Find(joined);
    if (!left_id || !right_id || !id) {
      const std::string& missing = !left_id ? left : !right_id ? right : joined;
      return absl::InvalidArgumentError(absl::StrCat("\"merges\"[", rank, "]: \"", left, "\" \"",
                                                     right, "\": \"", missing,
                                                     "\" is not in the vocabulary"));
    }
    merges_.insert_or_assign(PairKey(*left_id, *right_id), Merge{static_cast<uint32_t>(rank), *id});
  }
  config_.merges.clear();
  config_.merges.shrink_to_fit();
  return absl::OkStatus();
}

absl::Status Bpe::IndexRankedTokens() {
  constexpr size_t kMaxBytes = 1024;  // the work below grows with the square of the length
  const std::vector<int32_t> ranks = std::move(config_.token_ranks);
  merges_.reserve(2 * ranks.size());
  for (size_t i = 0; i < ranks.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    const std::string* token = vocabulary_.Token(id);
    if (ranks[i] < 0 || token == nullptr || token->empty()) continue;
    if (token->size() > kMaxBytes) {
      return absl::InvalidArgumentError(absl::StrCat("vocabulary: token ", id, " has ",
                                                     token->size(), " bytes, expected at most ",
                                                     kMaxBytes));
    }
    const std::string_view text = *token;
    for (size_t at = DecodeUtf8(text, 0).length; at < text.size();
         at += DecodeUtf8(text, at).length) {
      const std::optional<TokenId> left = vocabulary_.Find(text.substr(0, at));
      const std::optional<TokenId> right = left ? vocabulary_.Find(text.substr(at)) : std::nullopt;
      if (!right) continue;
      merges_.insert_or_assign(PairKey(*left, *right), Merge{static_cast<uint32_t>(ranks[i]), id});
    }
  }
  return absl::OkStatus();
}

bool Bpe::NothingJoinsBeforeBlank() const {
  const bool plain = config_.continuing_subword_prefix.empty() &&
                     config_.end_of_word_suffix.empty() && !config_.ignore_merges;
  if (!plain || !vocabulary_.Find(kBlank)) return false;
  for (const auto& [key, unused] : merges_) {
    const std::string_view right = *vocabulary_.Token(static_cast<TokenId>(key & 0xFFFFFFFF));
    if (right.substr(0, kBlank.size()) != kBlank) continue;
    const std::string_view left = *vocabulary_.Token(static_cast<TokenId>(key >> 32));
    const bool blank =
        left.size() >= kBlank.size() && left.substr(left.size() - kBlank.size()) == kBlank;
    if (!blank) return false;
  }
  return true;
}

size_t Bpe::IndependentPrefix(std::string_view text) const {
  if (!splits_before_blank_) return text.size();
  size_t pos = 0;
  while (text.substr(pos, kBlank.size()) == kBlank) pos += kBlank.size();
  return std::min(text.find(kBlank, pos), text.size());
}

void Bpe::IndexCharacters() {
  low_characters_.assign(kLowCharacters, -1);
  for (char32_t c = 0; c < kLowCharacters; ++c) {
    low_characters_[c] = vocabulary_.Find(EncodeUtf8(c)).value_or(-1);
  }
  for (int byte = 0; byte < 256; ++byte) {
    byte_tokens_[byte] = vocabulary_.Find(absl::StrFormat("<0x%02X>", byte)).value_or(-1);
  }
}

const Bpe::Merge* Bpe::FindMerge(TokenId left, TokenId right) const {
  const auto it = merges_.find(PairKey(left, right));
  return it == merges_.end() ? nullptr : &it->second;
}

std::optional<TokenId> Bpe::CharacterToken(std::string_view character, bool first,
                                           bool last) const {
  const bool prefixed = !first && !config_.continuing_subword_prefix.empty();
  const bool suffixed = last && !config_.end_of_word_suffix.empty();
  if (!prefixed && !suffixed) return vocabulary_.Find(character);
  std::string text;
  if (prefixed) text += config_.continuing_subword_prefix;
  text += character;
  if (suffixed) text += config_.end_of_word_suffix;
  return vocabulary_.Find(text);
}

bool Bpe::AppendByteTokens(std::string_view character, std::vector<TokenId>* symbols) const {
  for (const char c : character) {
    if (byte_tokens_[static_cast<uint8_t>(c)] < 0) return false;
  }
  for (const char c : character) symbols->push_back(byte_tokens_[static_cast<uint8_t>(c)]);
  return true;
}

// An unknown token waits until the next known character, so that its neighbours can join it;
// characters that have neither a token nor an unknown token to stand for them are dropped.
void Bpe::AppendCharacters(std::string_view word, std::vector<TokenId>* symbols) const {
  const bool plain =
      config_.continuing_subword_prefix.empty() && config_.end_of_word_suffix.empty();
  bool unk_waits = false;
  for (size_t pos = 0; pos < word.size();) {
    const DecodedCodePoint c = DecodeUtf8(word, pos);
    const std::string_view character = word.substr(pos, c.length);
    std::optional<TokenId> id;
    if (plain && c.value < kLowCharacters) {
      if (low_characters_[c.value] >= 0) id = low_characters_[c.value];
    } else {
      id = CharacterToken(character, pos == 0, pos + c.length == word.size());
    }
    pos += c.length;
    if (id) {
      if (unk_waits) symbols->push_back(*unk_);
      unk_waits = false;
      symbols->push_back(*id);
      continue;
    }
    if (config_.byte_fallback && AppendByteTokens(character, symbols)) continue;
    if (unk_) {
      if (unk_waits && !config_.fuse_unk) symbols->push_back(*unk_);
      unk_waits = true;
    }
  }
  if (unk_waits) symbols->push_back(*unk_);
}

void Bpe::MergeShort(std::vector<TokenId>* symbols) const {
  constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  std::array<Merge, kShortWord> merges;  // of symbol i with i + 1
  size_t count = symbols->size();
  TokenId* ids = symbols->data();
  const auto look_up = [&](size_t i) {
    const Merge* merge = FindMerge(ids[i], ids[i + 1]);
    merges[i] = merge == nullptr ? Merge{kNone, -1} : *merge;
  };
  for (size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == kNone) break;
    ids[best] = merges[best].id;
    for (size_t i = best + 1; i + 1 < count; ++i) {
      ids[i] = ids[i + 1];
      merges[i] = merges[i + 1];
    }
    --count;
    if (best > 0) look_up(best - 1);
    if (best + 1 < count) look_up(best);
  }
  symbols->resize(count);
}

// A linked list of symbols, each of which knows the merge with its neighbour; what the queue says of
// a symbol that has another by then is passed over.
void Bpe::MergeLong(std::vector<TokenId>* symbols) const {
  constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  struct Node {
    int32_t previous;
    int32_t next;
    Merge merge;  // with the next one
  };
  std::vector<TokenId>& ids = *symbols;
  const auto count = static_cast<int32_t>(ids.size());
  std::vector<Node> nodes(ids.size());
  MergeQueue queue(ids.size());
  const auto look_up = [&](int32_t position) {
    const int32_t next = nodes[position].next;
    const Merge* merge = next < count ? FindMerge(ids[position], ids[next]) : nullptr;
    nodes[position].merge = merge == nullptr ? Merge{kNone, -1} : *merge;
    if (merge != nullptr) queue.Push({merge->rank, position});
  };
  for (int32_t i = 0; i < count; ++i) {
    nodes[i].previous = i - 1;
    nodes[i].next = i + 1;
    look_up(i);
  }
  while (const std::optional<MergeQueue::Entry> best = queue.Pop()) {
    const int32_t position = best->position;
    Node& node = nodes[position];
    if (node.merge.rank != best->rank) continue;
    const int32_t next = node.next;
    ids[position] = node.merge.id;
    ids[next] = -1;
    nodes[next].merge.rank = kNone;
    node.next = nodes[next].next;
    if (node.next < count) nodes[node.next].previous = position;
    if (node.previous >= 0) look_up(node.previous);
    look_up(position);
  }
  ids.erase(std::remove(ids.begin(), ids.end(), -1), ids.end());
}

void Bpe::Tokenize(std::string_view word, std::vector<TokenId>* ids) const {
  const std::optional<TokenId> whole = vocabulary_.Find(word);
  if (whole) {
    const bool known = whole_[*whole].load(std::memory_order_relaxed) == kIsWhole;
    if (known || config_.ignore_merges) {
      ids->push_back(*whole);
      return;
    }
  }
  thread_local std::vector<TokenId> symbols;
  symbols.clear();
  AppendCharacters(word, &symbols);
  if (symbols.size() <= kShortWord) {
    MergeShort(&symbols);
  } else {
    MergeLong(&symbols);
  }
  if (whole) {
    const bool is_whole = symbols.size() == 1 && symbols.front() == *whole;
    whole_[*whole].store(is_whole ? kIsWhole : kIsParts, std::memory_order_relaxed);
  }
  ids->insert(ids->end(), symbols.begin(), symbols.end());
}

}  // namespace penstock
