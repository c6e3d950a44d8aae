#include "text/grammar/token_masks.h"

#include <algorithm>
#include <bitset>
#include <limits>

#include "base/status_macros.h"

namespace penstock::grammar {
namespace {

constexpr int32_t kManyBytes = 6;    // a state that goes on by fewer is walked whenever it is met
constexpr int64_t kSetWork = 64;     // work to keep a set of ways
constexpr int32_t kMostMissing = 4;  // masks of states that one mask may wait for
constexpr int64_t kScan = 16;        // work to look for the bytes that a state goes on by
constexpr size_t kFewTokens = 512;
// So few ways in so small a tree are walked as they come, and nothing is kept of them.
constexpr uint32_t kSmallTree = 256;
constexpr size_t kFewWays = 8;
// Prepare: some ten masks that hold most of a vocabulary, or hundreds of digits.
constexpr int32_t kPreparedBytes = 4096;
constexpr int32_t kPreparedStates = 256;
constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

void SetBit(absl::Span<uint32_t> words, TokenId id) { words[id / 32] |= 1u << (id % 32); }
void ClearBit(absl::Span<uint32_t> words, TokenId id) { words[id / 32] &= ~(1u << (id % 32)); }
bool HasBit(absl::Span<const uint32_t> words, TokenId id) {
  return (words[id / 32] >> (id % 32) & 1) != 0;
}

const ByteAutomaton& FreeText() {
  static const auto& made =
      *new ByteAutomaton(ByteAutomaton::Of(CharAutomaton::All(), TextEncoding::kJsonString));
  return made;
}

}  // namespace

TokenMasks::TokenMasks(std::vector<std::string> pieces, size_t cache_bytes)
    : pieces_(std::move(pieces)), cache_bytes_(cache_bytes), memo_(cache_bytes / 2) {
  std::vector<std::pair<std::string, TokenId>> tokens;
  for (size_t id = 0; id < pieces_.size(); ++id) {
    if (!pieces_[id].empty()) tokens.emplace_back(pieces_[id], static_cast<TokenId>(id));
  }
  trie_ = TokenTrie(std::move(tokens));
  MakeTextMasks();
}

std::shared_ptr<const StateMask> TokenMasks::Compute(const ByteAutomaton& automaton,
                                                     int32_t state) const {
  auto mask = std::make_shared<StateMask>();
  std::vector<std::pair<std::string, TokenId>> rests;
  std::vector<int32_t> states(static_cast<size_t>(trie_.max_depth()) + 1);
  std::vector<uint8_t> path(states.size());
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
    if (automaton.accepts(to)) {
      const size_t length = node.depth + 1u;
      for (const TokenId id : trie_.tokens_below(i)) {
        if (pieces_[id].size() > length) rests.emplace_back(pieces_[id].substr(length), id);
      }
    }
    states[node.depth + 1] = to;
    ++i;
  }
  if (!rests.empty()) mask->rest = std::make_shared<const TokenTrie>(std::move(rests));
  if (mask->ids.size() > kFewTokens) {
    mask->words.resize(num_words());
    for (const TokenId id : mask->ids) SetBit(absl::MakeSpan(mask->words), id);
    mask->ids = {};
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
  for (const std::shared_ptr<const ByteAutomaton>& automaton : grammar.terminals) {
    for (int32_t state = 0; state < std::min(automaton->num_states(), kPreparedStates); ++state) {
      const int32_t fan_out = automaton->fan_out(state);
      if (fan_out < kManyBytes || Has(*automaton, state)) continue;
      num_bytes += fan_out;
      if (num_bytes > kPreparedBytes) return;
      Of(*automaton, state);
    }
  }
}

size_t TokenMasks::cached_bytes() const {
  std::lock_guard lock(mutex_);
  return cached_;
}

MaskWriter::Walked::Walked(const StackMachine& machine, ConfigSet set_in) : set(std::move(set_in)) {
  by_byte.fill(kUnknown);
  for (const Config& way : set.ways) heads.emplace_back(&machine.automaton(way.pc), way.state);
  std::sort(heads.begin(), heads.end());
  heads.erase(std::unique(heads.begin(), heads.end()), heads.end());
}

MaskWriter::Walked& MaskWriter::Known(StackMachine& machine, const ConfigSet& set) {
  const auto [found, added] = known_.try_emplace(set.ways, nullptr);
  if (added) {
    machine.Spend(kSetWork + 4 * static_cast<int64_t>(set.ways.size()));
    found->second = &walked_.emplace_back(machine, set);
  }
  return *found->second;
}

MaskWriter::Walked* MaskWriter::Walk(StackMachine& machine, Walked& from, uint8_t byte) {
  machine.Spend(1);
  int16_t& index = from.by_byte[byte];
  if (index != Walked::kUnknown) return index < 0 ? nullptr : from.next[index].to;
  machine.Spend(static_cast<int64_t>(from.heads.size() * (1 + from.next.size() / 8)));
  states_.clear();
  bool any = false;
  for (const auto& [automaton, state] : from.heads) {
    states_.push_back(automaton->Next(state, byte));
    any |= states_.back() != ByteAutomaton::kDead;
  }
  index = Walked::kNowhere;
  if (!any) return nullptr;
  const auto known = std::find_if(from.next.begin(), from.next.end(),
                                  [&](const Walked::Next& n) { return n.states == states_; });
  index = static_cast<int16_t>(known - from.next.begin());
  if (known != from.next.end()) return known->to;
  ConfigSet to;
  from.next.push_back({states_, nullptr});
  machine.Step(from.set, byte, to);
  if (machine.exhausted() || to.dead()) {
    index = Walked::kNowhere;
    from.next.pop_back();
    return nullptr;
  }
  return from.next.back().to = &Known(machine, to);
}

template <typename Take>
void MaskWriter::WalkWays(StackMachine& machine, const TokenTrie& trie, uint32_t begin,
                          uint32_t end, const ConfigSet& from, const Take& take) {
  if (begin == end || from.ways.empty()) return;
  if (from.ways.size() == 1) return WalkOne(machine, trie, begin, end, from.ways[0], take);
  if (end - begin > kSmallTree || from.ways.size() > kFewWays)
    return WalkSet(machine, trie, begin, end, Known(machine, from), take);
  const uint16_t base = trie.node(begin).depth;
  std::vector<ConfigSet> levels(1, from);
  for (uint32_t i = begin; i < end && !machine.exhausted();) {
    const TokenTrie::Node& node = trie.node(i);
    const size_t level = node.depth - base;
    if (levels.size() <= level + 1) levels.resize(level + 2);
    ConfigSet& next = levels[level + 1];
    machine.Step(levels[level], node.byte, next);
    if (machine.exhausted()) return;
    if (next.dead()) {
      i = node.end;
      continue;
    }
    take(trie.tokens(node));
    if (next.ways.size() == 1) {
      WalkWays(machine, trie, i + 1, node.end, next, take);
      i = node.end;
    } else {
      ++i;
    }
  }
}

template <typename Take>
void MaskWriter::WalkSet(StackMachine& machine, const TokenTrie& trie, uint32_t begin, uint32_t end,
                         Walked& from, const Take& take) {
  const uint16_t base = trie.node(begin).depth;
  std::vector<Walked*> levels(1, &from);
  for (uint32_t i = begin; i < end && !machine.exhausted();) {
    const TokenTrie::Node& node = trie.node(i);
    levels.resize(node.depth - base + 1);
    Walked* next = Walk(machine, *levels.back(), node.byte);
    if (next == nullptr) {
      i = node.end;
      continue;
    }
    take(trie.tokens(node));
    levels.push_back(next);
    if (next->set.ways.size() <= 1) {
      WalkWays(machine, trie, i + 1, node.end, next->set, take);
      i = node.end;
    } else {
      ++i;
    }
  }
}

template <typename Take>
void MaskWriter::WalkOne(StackMachine& machine, const TokenTrie& trie, uint32_t begin, uint32_t end,
                         const Config& from, const Take& take) {
  const Instruction& instruction = machine.grammar().program[from.pc];
  const ByteAutomaton& automaton = machine.automaton(from.pc);
  const uint16_t base = trie.node(begin).depth;
  std::vector<int32_t> states(1, from.state);
  ConfigSet after;  // the end of the automaton
  bool entered = false;
  for (uint32_t i = begin; i < end && !machine.exhausted();) {
    const TokenTrie::Node& node = trie.node(i);
    const size_t level = node.depth - base;
    machine.Spend(1);
    const int32_t to = automaton.Next(states[level], node.byte);
    if (to == ByteAutomaton::kDead) {
      i = node.end;
      continue;
    }
    if (states.size() <= level + 1) states.resize(level + 2);
    states[level + 1] = to;
    take(trie.tokens(node));
    if (automaton.accepts(to) && node.end > i + 1) {
      const StackMachine::Place behind{instruction.next, from.stack};
      if (!std::exchange(entered, true)) machine.Enter({&behind, 1}, after);
      WalkWays(machine, trie, i + 1, node.end, after, take);
    }
    ++i;
  }
}

void MaskWriter::WriteRest(StackMachine& machine, const StateMask& mask,
                           absl::Span<const StackMachine::Place> behind, int64_t min_chars,
                           int64_t max_chars) {
  if (mask.rest == nullptr) return;
  ConfigSet after;
  machine.Enter(behind, after);
  const std::vector<uint8_t>& num_before = masks_->text().num_before;
  const bool counted = min_chars > 0 || max_chars != kNoLimit;
  const auto take = [&](absl::Span<const TokenId> tokens) {
    for (const TokenId id : tokens) {
      if (!mask.closes.empty() && !HasBit(mask.closes, id)) continue;
      if (counted && (num_before[id] < min_chars || num_before[id] > max_chars)) continue;
      SetBit(out_, id);
    }
  };
  WalkWays(machine, *mask.rest, 0, mask.rest->size(), after, take);
}

void MaskWriter::WriteState(StackMachine& machine, absl::Span<const Config> ways) {
  const ByteAutomaton& automaton = machine.automaton(ways[0].pc);
  const std::shared_ptr<const StateMask> mask = masks_->Of(automaton, ways[0].state);
  for (size_t i = 0; i < mask->words.size(); ++i) out_[i] |= mask->words[i];
  for (const TokenId id : mask->ids) SetBit(out_, id);
  behind_.clear();
  for (const Config& way : ways)
    behind_.emplace_back(machine.grammar().program[way.pc].next, way.stack);
  WriteRest(machine, *mask, behind_, 0, kNoLimit);
}

void MaskWriter::WriteText(StackMachine& machine, const Config& way) {
  const StackMachine::Node frame = machine.node(way.stack);
  const Instruction& loop = machine.grammar().program[frame.pc];
  const int64_t least = std::max(0, loop.min - frame.count);
  const int64_t most = loop.max < 0 ? kNoLimit : loop.max - frame.count;
  const TokenMasks::TextMasks& text = masks_->text();
  const auto n =
      static_cast<size_t>(std::min<int64_t>(most, static_cast<int64_t>(text.within.size()) - 1));
  for (size_t i = 0; i < text.within[n].size(); ++i) out_[i] |= text.within[n][i];
  for (const TokenId id : text.closing) {
    if (text.num_before[id] >= least && text.num_before[id] <= most) SetBit(out_, id);
  }
  behind_.clear();
  for (const int32_t parent : machine.parents(frame))
    behind_.emplace_back(machine.grammar().program[loop.next].next, parent);
  WriteRest(machine, *text.free, behind_, least, most);
}

void MaskWriter::WriteFew(StackMachine& machine, const ConfigSet& few) {
  std::bitset<256> bytes;
  for (const Config& way : few.ways) {
    const ByteAutomaton& automaton = machine.automaton(way.pc);
    int32_t left = automaton.fan_out(way.state);
    for (int byte = 0; byte < 256 && left > 0; ++byte) {
      if (automaton.Next(way.state, static_cast<uint8_t>(byte)) == ByteAutomaton::kDead) continue;
      bytes.set(byte);
      --left;
    }
    machine.Spend(kScan);
  }
  const auto take = [&](absl::Span<const TokenId> tokens) {
    for (const TokenId id : tokens) SetBit(out_, id);
  };
  const TokenTrie& trie = masks_->trie();
  ConfigSet next;
  for (int byte = 0; byte < 256; ++byte) {
    const uint32_t root = trie.root(static_cast<uint8_t>(byte));
    if (!bytes[byte] || root == trie.size()) continue;
    machine.Step(few, static_cast<uint8_t>(byte), next);
    if (machine.exhausted()) return;
    const TokenTrie::Node& node = trie.node(root);
    take(trie.tokens(node));
    WalkWays(machine, trie, root + 1, node.end, next, take);
  }
}

bool MakeStateKey(const StackMachine& machine, const ConfigSet& at, int32_t reach,
                  MaskMemo::Key& key) {
  constexpr int32_t kEndOfStack = -2, kSeveral = -3;
  const Grammar& grammar = machine.grammar();
  if (grammar.id == 0) return false;
  key.clear();
  key.push_back(static_cast<int32_t>(grammar.id));
  key.push_back(static_cast<int32_t>(grammar.id >> 32));
  std::vector<int32_t> open;  // stacks of the way that are still to be written, the next one last
  const auto open_parents = [&](const StackMachine::Node& frame) {
    const absl::Span<const int32_t> parents = machine.parents(frame);
    if (parents.size() != 1)
      key.insert(key.end(), {kSeveral, static_cast<int32_t>(parents.size())});
    open.insert(open.end(), parents.begin(), parents.end());
  };
  for (const Config& way : at.ways) {
    key.push_back(way.pc);
    key.push_back(way.state);
    if (grammar.program[way.pc].text_loop >= 0) {
      // How often the loop has turned matters only as far as a token can reach.
      const StackMachine::Node& frame = machine.node(way.stack);
      const Instruction& loop = grammar.program[frame.pc];
      key.push_back(std::clamp(loop.min - frame.count, 0, reach));
      key.push_back(loop.max < 0 ? -1 : std::min(loop.max - frame.count, reach));
      open_parents(frame);
    } else {
      open.push_back(way.stack);
    }
    while (!open.empty()) {
      const int32_t stack = open.back();
      open.pop_back();
      if (stack == StackMachine::kBottom) {
        key.push_back(kEndOfStack);
        continue;
      }
      const StackMachine::Node& frame = machine.node(stack);
      key.push_back(frame.pc);
      key.push_back(frame.count);
      open_parents(frame);
      if (key.size() > MaskMemo::kMaxKey || open.size() > MaskMemo::kMaxKey) return false;
    }
  }
  return true;
}

bool MaskWriter::Write(Matcher& matcher, absl::Span<uint32_t> words) {
  CHECK(words.size() >= masks_->num_words());
  out_ = words;
  StackMachine& machine = matcher.machine();
  // No token has as many characters as its depth and one.
  const bool kept = !matcher.too_ambiguous() &&
                    MakeStateKey(machine, matcher.state(), masks_->trie().max_depth() + 1, key_);
  if (kept && masks_->memo().Get(key_, words)) return true;
  machine.Allow();
  if (!matcher.too_ambiguous()) Compute(machine, matcher.state());
  if (matcher.too_ambiguous() || machine.exhausted()) {
    std::fill(words.begin(), words.end(), 0);
    return false;
  }
  if (kept) masks_->memo().Put(key_, words);
  return true;
}

void MaskWriter::Compute(StackMachine& machine, const ConfigSet& at) {
  std::fill(out_.begin(), out_.end(), 0);
  const size_t num_nodes = machine.num_nodes();
  few_.ways.clear();
  wide_.clear();
  for (const Config& way : at.ways) {
    const bool in_text = machine.grammar().program[way.pc].text_loop >= 0;
    if (in_text && way.state == 0) {
      WriteText(machine, way);
    } else if (!in_text && machine.automaton(way.pc).fan_out(way.state) >= kManyBytes) {
      wide_.push_back(way);
    } else {
      few_.ways.push_back(way);
    }
  }
  if (wide_.size() > 1) {
    std::stable_sort(wide_.begin(), wide_.end(), [&](const Config& a, const Config& b) {
      return std::pair(&machine.automaton(a.pc), a.state) <
             std::pair(&machine.automaton(b.pc), b.state);
    });
  }
  int32_t num_missing = 0;
  for (size_t begin = 0, end; begin < wide_.size() && !machine.exhausted(); begin = end) {
    const ByteAutomaton& automaton = machine.automaton(wide_[begin].pc);
    end = begin + 1;
    while (end < wide_.size() && &machine.automaton(wide_[end].pc) == &automaton &&
           wide_[end].state == wide_[begin].state)
      ++end;
    const absl::Span<const Config> alike = absl::MakeConstSpan(wide_).subspan(begin, end - begin);
    if (!masks_->Has(automaton, alike[0].state) && ++num_missing > kMostMissing) {
      few_.ways.insert(few_.ways.end(), alike.begin(), alike.end());
    } else {
      WriteState(machine, alike);
    }
  }
  if (!few_.ways.empty()) WriteFew(machine, few_);
  machine.Shrink(num_nodes);
  if (!known_.empty()) known_.clear();
  walked_.clear();
}

}  // namespace penstock::grammar
