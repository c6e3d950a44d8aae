#include "text/grammar/mask_writer.h"

#include <algorithm>
#include <bitset>
#include <limits>
#include <utility>

#include "base/give_back.h"
#include "base/status_macros.h"

namespace penstock::grammar {
namespace {

constexpr int64_t kSetWork = 64;     // work to keep a set of ways
constexpr int32_t kMostMissing = 4;  // masks of states that one mask may wait for
constexpr int64_t kScan = 16;        // work to look for the bytes that a state goes on by
// States at once that most tokens leave by their first byte: each of more would walk nearly all
// tokens, so the tokens are walked by all of them together.
constexpr size_t kMostLeaving = 4;
// So few ways in so small a tree are walked as they come, and nothing is kept of them.
constexpr uint32_t kSmallTree = 256;
constexpr size_t kFewWays = 8;
constexpr size_t kManyWays = 4096;  // room for them is not kept from mask to mask
constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

void SetMaskBit(absl::Span<uint32_t> words, TokenId id) { words[id / 32] |= 1u << (id % 32); }
bool HasMaskBit(absl::Span<const uint32_t> words, TokenId id) {
  return (words[id / 32] >> (id % 32) & 1) != 0;
}

/// Whether the automaton's end is one byte away, by most that go on.
bool IsLeaving(const ByteAutomaton& automaton, int32_t state) {
  int32_t num_ends = 0;
  for (int byte = 0; byte < 256; ++byte) {
    const int32_t to = automaton.Next(state, static_cast<uint8_t>(byte));
    num_ends += to != ByteAutomaton::kDead && automaton.accepts(to) ? 1 : 0;
  }
  return 2 * num_ends > automaton.fan_out(state);
}

}  // namespace

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
  // Nor does it matter which other ways ended here.
  survivors_.clear();
  for (const Config& way : from.set.ways) {
    const int32_t state = machine.automaton(way.pc).Next(way.state, byte);
    if (state != ByteAutomaton::kDead) survivors_.push_back({way.pc, state, way.stack});
  }
  machine.Spend(static_cast<int64_t>(from.set.ways.size() + survivors_.size()));
  const auto [behind, added] = behind_ways_.try_emplace(survivors_, nullptr);
  if (added) {
    ConfigSet to;
    machine.Step(from.set, byte, to);
    if (!machine.exhausted() && !to.dead()) behind->second = &Known(machine, to);
  }
  if (behind->second == nullptr) {
    index = Walked::kNowhere;
    return nullptr;
  }
  from.next.push_back({states_, behind->second});
  return behind->second;
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
      if (!mask.closes.empty() && !HasMaskBit(mask.closes, id)) continue;
      if (counted && (num_before[id] < min_chars || num_before[id] > max_chars)) continue;
      SetMaskBit(out_, id);
    }
  };
  WalkWays(machine, *mask.rest, 0, mask.rest->size(), after, take);
}

void MaskWriter::WriteState(StackMachine& machine, absl::Span<const Config> ways) {
  const ByteAutomaton& automaton = machine.automaton(ways[0].pc);
  const std::shared_ptr<const StateMask> mask = masks_->Of(automaton, ways[0].state);
  for (size_t i = 0; i < mask->words.size(); ++i) out_[i] |= mask->words[i];
  for (const TokenId id : mask->ids) SetMaskBit(out_, id);
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
    if (text.num_before[id] >= least && text.num_before[id] <= most) SetMaskBit(out_, id);
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
    for (const TokenId id : tokens) SetMaskBit(out_, id);
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

Limit MaskWriter::Write(Matcher& matcher, absl::Span<uint32_t> words) {
  CHECK(words.size() >= masks_->num_words());
  out_ = words;
  StackMachine& machine = matcher.machine();
  Limit limit = matcher.state().cut;
  // No token has as many characters as its depth and one.
  const bool kept = limit == Limit::kNone &&
                    MakeStateKey(machine, matcher.state(), masks_->trie().max_depth() + 1, key_);
  if (kept && masks_->memo().Get(key_, words)) return Limit::kNone;
  machine.Allow();
  if (limit == Limit::kNone) {
    Compute(machine, matcher.state());
    limit = machine.limit();
  }
  if (limit != Limit::kNone) {
    std::fill(words.begin(), words.end(), 0);
  } else if (kept) {
    masks_->memo().Put(key_, words);
  }
  return limit;
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
  std::vector<absl::Span<const Config>> groups;  // of ways in one state of one automaton
  for (size_t begin = 0, end; begin < wide_.size(); begin = end) {
    const ByteAutomaton& automaton = machine.automaton(wide_[begin].pc);
    end = begin + 1;
    while (end < wide_.size() && &machine.automaton(wide_[end].pc) == &automaton &&
           wide_[end].state == wide_[begin].state)
      ++end;
    groups.push_back(absl::MakeConstSpan(wide_).subspan(begin, end - begin));
  }
  size_t num_leaving = 0;
  const auto is_leaving = [&](absl::Span<const Config> group) {
    return IsLeaving(machine.automaton(group[0].pc), group[0].state);
  };
  if (groups.size() > kMostLeaving) {
    machine.Spend(kScan * static_cast<int64_t>(groups.size()));
    num_leaving = static_cast<size_t>(std::count_if(groups.begin(), groups.end(), is_leaving));
  }
  int32_t num_missing = 0;
  for (const absl::Span<const Config> group : groups) {
    if (machine.exhausted()) break;
    if ((num_leaving > kMostLeaving && is_leaving(group)) ||
        (!masks_->Has(machine.automaton(group[0].pc), group[0].state) &&
         ++num_missing > kMostMissing)) {
      few_.ways.insert(few_.ways.end(), group.begin(), group.end());
    } else {
      WriteState(machine, group);
    }
  }
  if (!few_.ways.empty()) WriteFew(machine, few_);
  machine.Shrink(num_nodes);
  machine.Relax();
  if (!known_.empty()) known_.clear();
  if (!behind_ways_.empty()) behind_ways_.clear();
  walked_.clear();
  if (at.ways.size() <= kManyWays) return;
  GiveBack(few_.ways);
  GiveBack(wide_);
  GiveBack(behind_);
  GiveBack(states_);
  GiveBack(survivors_);
}

}  // namespace penstock::grammar
