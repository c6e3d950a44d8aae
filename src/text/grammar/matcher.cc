#include "text/grammar/matcher.h"

#include <algorithm>
#include <utility>

namespace penstock::grammar {

StackMachine::StackMachine(std::shared_ptr<const Grammar> grammar) : grammar_(std::move(grammar)) {
  nodes_.push_back({});
}

int32_t StackMachine::Push(Node node) {
  if (nodes_.size() >= kMostNodes) {
    const auto known = ids_.find(node);
    return known == ids_.end() ? -1 : known->second;
  }
  const auto [it, added] = ids_.try_emplace(node, static_cast<int32_t>(nodes_.size()));
  if (added) nodes_.push_back(node);
  return it->second;
}

void StackMachine::Shrink(size_t num_nodes) {
  while (nodes_.size() > num_nodes) {
    ids_.erase(nodes_.back());
    nodes_.pop_back();
  }
}

void StackMachine::EnterLoop(int32_t pc, int32_t count, int32_t parent) {
  const Instruction& loop = grammar_->program[pc];
  if (count >= loop.min) work_.emplace_back(loop.next, parent);
  if (loop.max >= 0 && count >= loop.max) return;
  // Without a limit turns beyond the least number are all alike.
  const int32_t turns = loop.max < 0 ? std::min(count, loop.min) : count;
  const int32_t node = Push({pc, turns, parent});
  if (node < 0 || std::find(entered_.begin(), entered_.end(), node) != entered_.end()) return;
  entered_.push_back(node);
  work_.emplace_back(loop.body, node);
}

void StackMachine::Enter(int32_t pc, int32_t stack, ConfigSet& to) {
  work_.clear();
  seen_.clear();
  entered_.clear();
  work_.emplace_back(pc, stack);
  while (!work_.empty() && to.ways.size() < kMostWays) {
    const auto at = work_.back();
    work_.pop_back();
    if (std::find(seen_.begin(), seen_.end(), at) != seen_.end()) continue;
    seen_.push_back(at);
    const Instruction& i = grammar_->program[at.first];
    switch (i.kind) {
      case Instruction::Kind::kTerminal: {
        const ByteAutomaton& automaton = *grammar_->terminals[i.terminal];
        const Config config{at.first, 0, at.second};
        if (automaton.goes_on(0) &&
            std::find(to.ways.begin(), to.ways.end(), config) == to.ways.end())
          to.ways.push_back(config);
        if (automaton.accepts(0)) work_.emplace_back(i.next, at.second);
        to.finished |= i.endless;
        break;
      }
      case Instruction::Kind::kSplit:
        for (size_t t = i.targets.size(); t-- > 0;) work_.emplace_back(i.targets[t], at.second);
        break;
      case Instruction::Kind::kCall:
        if (const int32_t node = Push({i.next, kCall, at.second}); node >= 0)
          work_.emplace_back(i.body, node);
        break;
      case Instruction::Kind::kLoop:
        EnterLoop(at.first, 0, at.second);
        break;
      case Instruction::Kind::kReturn: {
        if (at.second == kBottom) {
          to.finished = true;
          break;
        }
        const Node node = nodes_[at.second];
        if (node.count == kCall) {
          work_.emplace_back(node.pc, node.parent);
        } else if (std::find(entered_.begin(), entered_.end(), at.second) == entered_.end()) {
          // A turn without any byte, which was begun just now, would be no progress.
          EnterLoop(node.pc, node.count + 1, node.parent);
        }
        break;
      }
    }
  }
}

void StackMachine::Step(const ConfigSet& from, uint8_t byte, ConfigSet& to) {
  to.ways.clear();
  to.finished = false;
  for (const Config& way : from.ways) {
    if (to.ways.size() >= kMostWays) break;
    const Instruction& i = grammar_->program[way.pc];
    const ByteAutomaton& automaton = *grammar_->terminals[i.terminal];
    const int32_t state = automaton.Next(way.state, byte);
    if (state == ByteAutomaton::kDead) continue;
    const Config config{way.pc, state, way.stack};
    if (automaton.goes_on(state) &&
        std::find(to.ways.begin(), to.ways.end(), config) == to.ways.end())
      to.ways.push_back(config);
    if (automaton.accepts(state)) Enter(i.next, way.stack, to);
    to.finished |= i.endless;
  }
}

Matcher::Matcher(std::shared_ptr<const Grammar> grammar) : machine_(std::move(grammar)) {
  history_.emplace_back();
  machine_.Enter(machine_.grammar().start, StackMachine::kBottom, history_.back());
}

bool Matcher::Accept(std::string_view bytes) {
  ConfigSet now = history_.back();
  ConfigSet next;
  for (const char byte : bytes) {
    machine_.Step(now, static_cast<uint8_t>(byte), next);
    if (next.dead()) return false;
    std::swap(now, next);
  }
  history_.push_back(std::move(now));
  return true;
}

void Matcher::Rollback(int32_t num_steps) {
  history_.resize(history_.size() - static_cast<size_t>(std::min(num_steps, this->num_steps())));
}

void Matcher::LimitReasoning(int32_t most) {
  const int32_t pc = machine_.grammar().reasoning;
  const auto way_of = [pc](ConfigSet& set) {
    return std::find_if(set.ways.begin(), set.ways.end(),
                        [pc](const Config& way) { return way.pc == pc; });
  };
  ConfigSet& now = history_.back();
  const auto way = way_of(now);
  if (way == now.ways.end()) return;
  int32_t begin = 0;
  while (way_of(history_[begin]) == history_[begin].ways.end()) ++begin;
  if (num_steps() - begin < most) return;
  const Config closing{machine_.grammar().closing, way->state, way->stack};
  now.ways = {closing};
  now.finished = false;
}

}  // namespace penstock::grammar
