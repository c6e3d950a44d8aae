#include "text/grammar/matcher.h"

#include <algorithm>
#include <utility>

#include "absl/hash/hash.h"
#include "base/give_back.h"
#include "base/status_macros.h"

namespace penstock::grammar {
namespace {

constexpr int64_t kMoveWork = 5;  // a look at an automaton is 1
// What may stay of one move's room for the next.
constexpr size_t kScratchBytes = 64u << 10;
constexpr size_t kScratchStacks = 256;
constexpr size_t kFewNodes = 4096;

template <typename T>
bool IsWide(const T& kept, size_t few) {
  return kept.capacity() > few && kept.capacity() > 4 * kept.size();
}

/// The first way in `pc`; the end where there is none, or no `pc`.
std::vector<Config>::const_iterator FindPlace(const ConfigSet& set, int32_t pc) {
  if (pc < 0) return set.ways.end();
  return std::find_if(set.ways.begin(), set.ways.end(),
                      [pc](const Config& way) { return way.pc == pc; });
}

}  // namespace

size_t StackMachine::HashNode::operator()(int32_t node) const {
  const Node& n = machine->nodes_[node];
  return absl::HashOf(n.pc, n.count, machine->parents(n));
}

bool StackMachine::EqualNodes::operator()(int32_t a, int32_t b) const {
  const Node& x = machine->nodes_[a];
  const Node& y = machine->nodes_[b];
  return x.pc == y.pc && x.count == y.count && machine->parents(x) == machine->parents(y);
}

StackMachine::StackMachine(std::shared_ptr<const Grammar> grammar)
    : grammar_(std::move(grammar)), ids_(0, HashNode{this}, EqualNodes{this}) {
  nodes_.push_back({});
}

void StackMachine::Shrink(size_t num_nodes) {
  while (nodes_.size() > num_nodes) {
    ids_.erase(static_cast<int32_t>(nodes_.size()) - 1);
    parents_.resize(nodes_.back().first_parent);
    nodes_.pop_back();
  }
}

void StackMachine::Begin() {
  work_.clear();
  seen_.clear();
  ways_.clear();
  calls_.clear();
  links_.clear();
  num_fresh_ = 0;
}

int32_t StackMachine::Push(int32_t pc, int32_t count, int32_t body, int32_t parent) {
  // What two rules return to may be the same for both, and who called them not.
  const auto [index, added] = calls_.Add({pc, count == kCall ? -2 - body : count});
  const auto stack = static_cast<int32_t>(index) + kFirstFresh;
  if (added) {
    if (fresh_.size() == num_fresh_) fresh_.emplace_back();
    Fresh& fresh = fresh_[num_fresh_++];
    fresh.pc = pc;
    fresh.count = count;
    fresh.settled = kOpen;
    fresh.returned = false;
    fresh.parents.assign(1, parent);
    links_.Add({stack, parent});
    return stack;
  }
  if (!links_.Add({stack, parent}).second) return -1;
  fresh_[index].parents.push_back(parent);
  // Whoever came back before this parent was there comes back to it too.
  if (fresh_[index].returned) GoOn(pc, count, parent);
  return -1;
}

void StackMachine::EnterLoop(int32_t pc, int32_t count, int32_t parent) {
  const Instruction& loop = grammar_->program[pc];
  if (count >= loop.min) work_.emplace_back(loop.next, parent);
  if (loop.max >= 0 && count >= loop.max) return;
  // Without a limit turns beyond the least number are all alike.
  const int32_t turns = loop.max < 0 ? std::min(count, loop.min) : count;
  if (const int32_t stack = Push(pc, turns, loop.body, parent); stack >= 0)
    work_.emplace_back(loop.body, stack);
}

void StackMachine::GoOn(int32_t pc, int32_t count, int32_t parent) {
  if (count == kCall) {
    work_.emplace_back(pc, parent);
  } else {
    EnterLoop(pc, count + 1, parent);
  }
}

void StackMachine::Return(int32_t stack, bool& finished) {
  if (stack == kBottom) {
    finished = true;
    return;
  }
  if (stack < kFirstFresh) {
    const Node node = nodes_[stack];
    for (uint32_t i = 0; i < node.num_parents; ++i)
      GoOn(node.pc, node.count, parents_[node.first_parent + i]);
    return;
  }
  Fresh& fresh = fresh_[stack - kFirstFresh];
  // A turn without any byte, which was begun just now, would be no progress.
  if (fresh.count != kCall) return;
  fresh.returned = true;
  for (const int32_t parent : fresh.parents) work_.emplace_back(fresh.pc, parent);
}

/// All that can be reached without a byte.
void StackMachine::Go(int32_t pc, int32_t stack, bool& finished) {
  work_.emplace_back(pc, stack);
  while (!work_.empty()) {
    const Place at = work_.back();
    work_.pop_back();
    Spend(kMoveWork);
    if (!seen_.Add(at).second) continue;
    if (ways_.size() > kMostWays) Exhaust(Limit::kWays);
    if (exhausted()) return;
    const Instruction& i = grammar_->program[at.first];
    switch (i.kind) {
      case Instruction::Kind::kTerminal: {
        const ByteAutomaton& automaton = *grammar_->terminals[i.terminal];
        if (automaton.goes_on(0)) Reach({at.first, 0, at.second});
        if (automaton.accepts(0)) work_.emplace_back(i.next, at.second);
        finished |= i.endless;
        break;
      }
      case Instruction::Kind::kSplit:
        for (size_t t = i.targets.size(); t-- > 0;) work_.emplace_back(i.targets[t], at.second);
        break;
      case Instruction::Kind::kCall:
        if (const int32_t made = Push(i.next, kCall, i.body, at.second); made >= 0)
          work_.emplace_back(i.body, made);
        break;
      case Instruction::Kind::kLoop:
        EnterLoop(at.first, 0, at.second);
        break;
      case Instruction::Kind::kReturn:
        Return(at.second, finished);
        break;
    }
  }
}

int32_t StackMachine::Keep(Fresh& fresh) {
  std::sort(fresh.parents.begin(), fresh.parents.end());
  fresh.parents.erase(std::unique(fresh.parents.begin(), fresh.parents.end()), fresh.parents.end());
  const auto made = static_cast<int32_t>(nodes_.size());
  nodes_.push_back({fresh.pc, fresh.count, static_cast<uint32_t>(parents_.size()),
                    static_cast<uint32_t>(fresh.parents.size())});
  parents_.insert(parents_.end(), fresh.parents.begin(), fresh.parents.end());
  const auto [known, added] = ids_.insert(made);
  if (added && nodes_.size() <= kMostNodes && parents_.size() <= 2 * kMostNodes) return made;
  const int32_t kept = added ? -1 : *known;
  if (added) ids_.erase(known);
  parents_.resize(nodes_.back().first_parent);
  nodes_.pop_back();
  return kept;
}

/// The stack that lasts for one of this move; -1: there is no room.
int32_t StackMachine::Settle(int32_t stack) {
  if (stack < kFirstFresh) return stack;
  settling_.assign(1, stack - kFirstFresh);
  while (!settling_.empty()) {
    Fresh& fresh = fresh_[settling_.back()];
    if (fresh.settled >= 0) {
      settling_.pop_back();
      continue;
    }
    if (exhausted()) return -1;
    const bool waited = std::exchange(fresh.settled, kSettling) == kSettling;
    bool waits = false;
    for (int32_t& parent : fresh.parents) {
      if (parent < kFirstFresh) continue;
      const Fresh& below = fresh_[parent - kFirstFresh];
      if (below.settled >= 0) {
        parent = below.settled;
      } else if (!waited) {
        settling_.push_back(parent - kFirstFresh);
        waits = true;
      } else {
        Exhaust(Limit::kStacks);  // a rule that calls itself before any byte: there is none
        return -1;
      }
    }
    if (waits) continue;
    Spend(kMoveWork * (1 + static_cast<int64_t>(fresh.parents.size())));
    fresh.settled = Keep(fresh);
    if (fresh.settled < 0) Exhaust(Limit::kStacks);
  }
  return fresh_[stack - kFirstFresh].settled;
}

void StackMachine::End(ConfigSet& to) {
  to.ways = ways_.values();
  bool merged = false;
  size_t kept = 0;
  for (const Config& way : to.ways) {
    const int32_t stack = Settle(way.stack);
    if (stack < 0) continue;
    merged |= stack != way.stack;
    to.ways[kept++] = {way.pc, way.state, stack};
  }
  to.ways.resize(kept);
  if (merged) {  // a stack made now may be one that was there
    ways_.clear();
    for (const Config& way : to.ways) ways_.Add(way);
    if (ways_.size() < to.ways.size()) to.ways = ways_.values();
  }
  if (to.cut == Limit::kNone) to.cut = limit_;
}

void StackMachine::Enter(absl::Span<const Place> places, ConfigSet& to) {
  Begin();
  to.finished = false;
  to.cut = Limit::kNone;
  for (const auto& [pc, stack] : places) Go(pc, stack, to.finished);
  End(to);
}

void StackMachine::Step(const ConfigSet& from, uint8_t byte, ConfigSet& to) {
  Begin();
  to.finished = false;
  to.cut = from.cut;
  for (const Config& way : from.ways) {
    Spend(1);
    if (exhausted()) break;
    const Instruction& i = grammar_->program[way.pc];
    const ByteAutomaton& automaton = *grammar_->terminals[i.terminal];
    const int32_t state = automaton.Next(way.state, byte);
    if (state == ByteAutomaton::kDead) continue;
    if (automaton.goes_on(state)) Reach({way.pc, state, way.stack});
    if (automaton.accepts(state)) Go(i.next, way.stack, to.finished);
    to.finished |= i.endless;
  }
  End(to);
}

void StackMachine::Collect(absl::Span<ConfigSet> sets, absl::Span<size_t> num_nodes) {
  constexpr int32_t kUnused = -1;
  std::vector<int32_t> names(nodes_.size(), kUnused);
  names[kBottom] = kBottom;
  for (const ConfigSet& set : sets) {
    for (const Config& way : set.ways) names[way.stack] = way.stack;
  }
  // A stack is younger than those that it lies on.
  for (size_t i = nodes_.size(); i-- > 1;) {
    if (names[i] == kUnused) continue;
    for (const int32_t parent : parents(nodes_[i])) names[parent] = parent;
  }
  ids_.clear();
  size_t kept = 1;
  uint32_t num_parents = 0;
  std::vector<size_t> num_before(nodes_.size() + 1, 1);  // used ones below each
  for (size_t i = 1; i < nodes_.size(); ++i) {
    num_before[i] = kept;
    if (names[i] == kUnused) continue;
    Node node = nodes_[i];
    for (uint32_t p = 0; p < node.num_parents; ++p)
      parents_[num_parents + p] = names[parents_[node.first_parent + p]];
    node.first_parent = num_parents;
    num_parents += node.num_parents;
    names[i] = static_cast<int32_t>(kept);
    nodes_[kept++] = node;
  }
  num_before[nodes_.size()] = kept;
  nodes_.resize(kept);
  parents_.resize(num_parents);
  for (size_t i = 1; i < kept; ++i) ids_.insert(static_cast<int32_t>(i));
  for (size_t& count : num_nodes) count = num_before[count];
  for (ConfigSet& set : sets) {
    for (Config& way : set.ways) way.stack = names[way.stack];
  }
}

void StackMachine::Relax(bool wholly) {
  if (wholly || IsWide(nodes_, kFewNodes)) nodes_.shrink_to_fit();
  if (wholly || IsWide(parents_, kFewNodes)) parents_.shrink_to_fit();
  if (wholly || IsWide(ids_, kFewNodes)) ids_.rehash(0);
  const size_t most = wholly ? 0 : kScratchBytes;
  if (work_.capacity() * sizeof(Place) > most) GiveBack(work_);
  if (seen_.bytes() > most) seen_ = {};
  if (ways_.bytes() > most) ways_ = {};
  if (calls_.bytes() > most) calls_ = {};
  if (fresh_.size() > (wholly ? 0 : kScratchStacks) || links_.bytes() > most) GiveBack(fresh_);
  if (links_.bytes() > most) links_ = {};
}

size_t StackMachine::bytes() const {
  return nodes_.capacity() * sizeof(Node) + parents_.capacity() * sizeof(int32_t) +
         ids_.capacity() * (sizeof(int32_t) + 1) + work_.capacity() * sizeof(Place) +
         seen_.bytes() + ways_.bytes() + calls_.bytes() + links_.bytes() +
         fresh_.capacity() * sizeof(Fresh);
}

Matcher::Matcher(std::shared_ptr<const Grammar> grammar, std::shared_ptr<WayMemory> memory)
    : machine_(std::move(grammar)), collect_at_(kFewNodes), memory_(std::move(memory)) {
  ConfigSet start;
  const StackMachine::Place place{machine_.grammar().start, StackMachine::kBottom};
  machine_.Enter({&place, 1}, start);
  Keep(std::move(start));
}

Matcher::~Matcher() { memory_->Resize(told_, 0); }

size_t Matcher::bytes() const {
  return sizeof(*this) + machine_.bytes() + way_bytes_ + history_.capacity() * sizeof(ConfigSet) +
         num_nodes_.capacity() * sizeof(size_t);
}

void Matcher::Keep(ConfigSet now) {
  if (IsWide(now.ways, 0)) now.ways.shrink_to_fit();
  if (reasoning_begin_ < 0 && FindPlace(now, machine_.grammar().reasoning) != now.ways.end())
    reasoning_begin_ = num_steps() + 1;
  way_bytes_ += now.ways.capacity() * sizeof(Config);
  history_.push_back(std::move(now));
  num_nodes_.push_back(machine_.num_nodes());
  Forget();
  machine_.Relax();
  if (const auto size = static_cast<int64_t>(bytes()); memory_->Resize(told_, size)) {
    told_ = size;
    return;
  }
  // What there is no room for goes; the request ends here.
  way_bytes_ -= history_.back().ways.capacity() * sizeof(Config);
  history_.back() = {{}, false, Limit::kMemory};
  if (num_nodes_.size() > 1) machine_.Shrink(num_nodes_[num_nodes_.size() - 2]);
  num_nodes_.back() = machine_.num_nodes();
  machine_.Relax(/*wholly=*/true);
}

void Matcher::Forget() {
  if (history_.size() > 2 * size_t{kMostTakenBack}) {
    const auto num = static_cast<ptrdiff_t>(history_.size()) - 1 - kMostTakenBack;
    for (ptrdiff_t i = 0; i < num; ++i)
      way_bytes_ -= history_[static_cast<size_t>(i)].ways.capacity() * sizeof(Config);
    history_.erase(history_.begin(), history_.begin() + num);
    num_nodes_.erase(num_nodes_.begin(), num_nodes_.begin() + num);
    num_forgotten_ += static_cast<int32_t>(num);
  }
  if (machine_.num_nodes() < collect_at_) return;
  machine_.Collect(absl::MakeSpan(history_), absl::MakeSpan(num_nodes_));
  // To look through the history again must be worth it.
  collect_at_ = 2 * machine_.num_nodes() + kFewNodes + way_bytes_ / sizeof(Config) / 4;
}

bool Matcher::Accept(std::string_view bytes) {
  ConfigSet now = history_.back();
  ConfigSet next;
  machine_.Allow();
  for (const char byte : bytes) {
    machine_.Step(now, static_cast<uint8_t>(byte), next);
    if (next.dead() && next.cut == Limit::kNone) {
      machine_.Shrink(num_nodes_.back());
      return false;
    }
    std::swap(now, next);
  }
  Keep(std::move(now));
  return true;
}

void Matcher::Rollback(int32_t num_steps) {
  CHECK(num_steps >= 0 && num_steps <= this->num_steps() - num_forgotten_);
  for (int32_t left = num_steps; left > 0; --left) {
    way_bytes_ -= history_.back().ways.capacity() * sizeof(Config);
    history_.pop_back();
    num_nodes_.pop_back();
  }
  if (this->num_steps() < reasoning_begin_) reasoning_begin_ = -1;
  machine_.Shrink(num_nodes_.back());
}

void Matcher::LimitReasoning(int32_t most) {
  ConfigSet& now = history_.back();
  const auto way = FindPlace(now, machine_.grammar().reasoning);
  if (way == now.ways.end() || num_steps() - reasoning_begin_ < most) return;
  now.ways = {Config{machine_.grammar().closing, way->state, way->stack}};
  now.finished = false;
}

}  // namespace penstock::grammar
