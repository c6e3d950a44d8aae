#include "text/grammar/token_masks.h"

#include <algorithm>
#include <utility>

#include "base/give_back.h"

namespace penstock::grammar {
namespace {

constexpr size_t kFewTokens = 512;
// Prepare: some ten masks that hold most of a vocabulary, or hundreds of digits.
constexpr int32_t kPreparedBytes = 4096;
constexpr int32_t kPreparedStates = 256;
constexpr size_t kPreparedRests = 2'000'000;  // of tokens: a tenth of a second

void SetBit(absl::Span<uint32_t> words, TokenId id) { words[id / 32] |= 1u << (id % 32); }
void ClearBit(absl::Span<uint32_t> words, TokenId id) { words[id / 32] &= ~(1u << (id % 32)); }

const ByteAutomaton& FreeText() {
  static const auto& made =
      *new ByteAutomaton(ByteAutomaton::Of(CharAutomaton::All(), TextEncoding::kJsonString));
  return made;
}

}  // namespace

TokenMasks::TokenMasks(std::vector<std::string> pieces, size_t cache_bytes)
    : pieces_(std::move(pieces)), cache_bytes_(cache_bytes), memo_(cache_bytes / 2) {
  std::vector<std::pair<std::string_view, TokenId>> tokens;
  for (size_t id = 0; id < pieces_.size(); ++id) {
    if (!pieces_[id].empty()) tokens.emplace_back(pieces_[id], static_cast<TokenId>(id));
  }
  trie_ = TokenTrie(std::move(tokens));
  MakeTextMasks();
}

std::shared_ptr<const StateMask> TokenMasks::Compute(const ByteAutomaton& automaton,
                                                     int32_t state) const {
  auto mask = std::make_shared<StateMask>();
  std::vector<uint32_t> ends;
  std::vector<int32_t> states(static_cast<size_t>(trie_.max_depth()) + 1);
  states[0] = state;
  for (uint32_t i = 0; i < trie_.size();) {
    const TokenTrie::Node& node = trie_.node(i);
    const int32_t to = automaton.Next(states[node.depth], node.byte);
    if (to == ByteAutomaton::kDead) {
      i = node.end;
      continue;
    }
    const absl::Span<const TokenId> own = trie_.tokens(node);
    mask->ids.insert(mask->ids.end(), own.begin(), own.end());
    if (automaton.accepts(to) && node.end > i + 1) ends.push_back(i);
    states[node.depth + 1] = to;
    ++i;
  }
  if (!ends.empty()) mask->rest = std::make_shared<const TokenTrie>(trie_.Behind(ends));
  if (mask->ids.size() > kFewTokens) {
    mask->words.resize(num_words());
    for (const TokenId id : mask->ids) SetBit(absl::MakeSpan(mask->words), id);
    GiveBack(mask->ids);
  }
  return mask;
}

std::shared_ptr<const StateMask> TokenMasks::Differ(const ByteAutomaton& automaton,
                                                    int32_t state) const {
  auto mask = std::make_shared<StateMask>(*text_.free);
  if (mask->words.empty()) return Compute(automaton, state);
  mask->closes.assign(num_words(), ~0u);
  const int32_t free = automaton.free_state();
  std::vector<std::pair<int32_t, int32_t>> states(static_cast<size_t>(trie_.max_depth()) + 1);
  states[0] = {state, free};
  for (uint32_t i = 0; i < trie_.size();) {
    const TokenTrie::Node& node = trie_.node(i);
    const auto [own, other] = states[node.depth];
    const int32_t to = automaton.Next(own, node.byte);
    const int32_t free_to = automaton.Next(other, node.byte);
    if (to != free_to && to != ByteAutomaton::kDead) {
      states[node.depth + 1] = {to, free_to};
      ++i;
      continue;
    }
    if (to != free_to) {  // the free state goes on, this one does not
      for (const TokenId id : trie_.tokens_below(i)) {
        ClearBit(absl::MakeSpan(mask->words), id);
        ClearBit(absl::MakeSpan(mask->closes), id);
      }
    }
    i = node.end;
  }
  return mask;
}

void TokenMasks::MakeTextMasks() {
  const ByteAutomaton& free = FreeText();
  text_.free = Compute(free, free.free_state());
  // Characters that each token completes or begins.
  text_.num_before.assign(pieces_.size(), 0);
  std::vector<std::vector<TokenId>> by_count(1);
  for (size_t id = 0; id < pieces_.size(); ++id) {
    const std::string& piece = pieces_[id];
    int32_t state = free.free_state();
    size_t count = 0;
    size_t at = 0;
    for (; at < piece.size() && state != ByteAutomaton::kDead && !free.accepts(state); ++at) {
      if (state == free.free_state() && piece[at] != '"') ++count;
      state = free.Next(state, static_cast<uint8_t>(piece[at]));
    }
    if (state == ByteAutomaton::kDead || piece.empty()) continue;
    text_.num_before[id] = static_cast<uint8_t>(std::min<size_t>(count, 255));
    if (by_count.size() <= count) by_count.resize(count + 1);
    if (at < piece.size()) continue;
    if (free.accepts(state)) {
      text_.closing.push_back(static_cast<TokenId>(id));
    } else {
      by_count[count].push_back(static_cast<TokenId>(id));
    }
  }
  constexpr size_t kMostCounts = 256;
  std::vector<uint32_t> words(num_words());
  for (size_t n = 0; n < by_count.size() && n < kMostCounts; ++n) {
    for (const TokenId id : by_count[n]) SetBit(absl::MakeSpan(words), id);
    text_.within.push_back(words);
  }
}

std::shared_ptr<const StateMask> TokenMasks::Of(const ByteAutomaton& automaton, int32_t state) {
  const int32_t free = automaton.free_state();
  if (state == free) return text_.free;
  const Key key{automaton.digest(), state};
  {
    std::lock_guard lock(mutex_);
    const auto it = cache_.find(key);
    if (it != cache_.end()) return it->second;
  }
  const bool in_text = free != ByteAutomaton::kDead && automaton.fan_out(state) >= 64 &&
                       automaton.Next(state, 'a') == free;
  std::shared_ptr<const StateMask> made =
      in_text ? Differ(automaton, state) : Compute(automaton, state);
  const size_t bytes = made->bytes() + (in_text || !made->rest ? 0 : made->rest->bytes());
  std::lock_guard lock(mutex_);
  if (cached_ + bytes > cache_bytes_) {
    cache_.clear();
    cached_ = 0;
  }
  if (cache_.emplace(key, made).second) cached_ += bytes;
  return made;
}

bool TokenMasks::Has(const ByteAutomaton& automaton, int32_t state) const {
  if (state == automaton.free_state()) return true;
  const std::lock_guard lock(mutex_);
  return cache_.contains(Key{automaton.digest(), state});
}

void TokenMasks::Prepare(const Grammar& grammar) {
  int32_t num_bytes = 0;  // a mask takes the longer the more bytes its state goes on by
  size_t num_rests = 0;   // and the more tokens leave it
  for (const std::shared_ptr<const ByteAutomaton>& automaton : grammar.terminals) {
    for (int32_t state = 0; state < std::min(automaton->num_states(), kPreparedStates); ++state) {
      const int32_t fan_out = automaton->fan_out(state);
      if (fan_out < kManyBytes || Has(*automaton, state)) continue;
      num_bytes += fan_out;
      if (num_bytes > kPreparedBytes || num_rests > kPreparedRests) return;
      const std::shared_ptr<const StateMask> made = Of(*automaton, state);
      if (made->rest != nullptr) num_rests += made->rest->num_tokens();
    }
  }
}

size_t TokenMasks::cached_bytes() const {
  std::lock_guard lock(mutex_);
  return cached_;
}

}  // namespace penstock::grammar
