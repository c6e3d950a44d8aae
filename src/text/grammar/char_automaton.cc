#include "text/grammar/char_automaton.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"

namespace penstock::grammar {

void CharSet::Add(uint32_t low, uint32_t high) {
  if (low > high) return;
  ranges_.push_back({low, high});
  if (ranges_.size() == 1 || ranges_[ranges_.size() - 2].high + 1 < low) return;
  std::sort(ranges_.begin(), ranges_.end(),
            [](const Range& a, const Range& b) { return a.low < b.low; });
  size_t kept = 0;
  for (size_t i = 1; i < ranges_.size(); ++i) {
    if (ranges_[i].low <= ranges_[kept].high + 1) {
      ranges_[kept].high = std::max(ranges_[kept].high, ranges_[i].high);
    } else {
      ranges_[++kept] = ranges_[i];
    }
  }
  ranges_.resize(kept + 1);
}

void CharSet::Add(const CharSet& other) {
  for (const Range& r : other.ranges_) Add(r.low, r.high);
}

CharSet CharSet::Complement() const {
  CharSet out;
  uint32_t low = 0;
  for (const Range& r : ranges_) {
    if (r.low > low) out.ranges_.push_back({low, r.low - 1});
    low = r.high + 1;
  }
  if (low <= kMaxCodePoint) out.ranges_.push_back({low, kMaxCodePoint});
  return out;
}

bool CharSet::Contains(uint32_t c) const {
  return std::any_of(ranges_.begin(), ranges_.end(),
                     [c](const Range& r) { return r.low <= c && c <= r.high; });
}

CharClassTable CharClassTable::Of(const std::vector<CharSet>& sets) {
  std::vector<uint32_t> borders{0};
  for (const CharSet& set : sets) {
    for (const CharSet::Range& r : set.ranges()) {
      borders.push_back(r.low);
      if (r.high < kMaxCodePoint) borders.push_back(r.high + 1);
    }
  }
  std::sort(borders.begin(), borders.end());
  borders.erase(std::unique(borders.begin(), borders.end()), borders.end());
  // In which sets each piece between borders lies.
  std::vector<std::vector<uint32_t>> members(borders.size());
  for (size_t s = 0; s < sets.size(); ++s) {
    for (const CharSet::Range& r : sets[s].ranges()) {
      size_t i = std::lower_bound(borders.begin(), borders.end(), r.low) - borders.begin();
      for (; i < borders.size() && borders[i] <= r.high; ++i)
        members[i].push_back(static_cast<uint32_t>(s));
    }
  }
  CharClassTable table;
  table.runs_.clear();
  std::map<std::vector<uint32_t>, int32_t> ids;
  for (size_t i = 0; i < borders.size(); ++i) {
    const int32_t id = ids.emplace(members[i], static_cast<int32_t>(ids.size())).first->second;
    const uint32_t high = i + 1 < borders.size() ? borders[i + 1] - 1 : kMaxCodePoint;
    table.runs_.push_back({borders[i], high, id});
  }
  table.size_ = static_cast<int32_t>(ids.size());
  return table;
}

CharClassTable CharClassTable::Refine(const CharClassTable& a, const CharClassTable& b,
                                      std::vector<std::pair<int32_t, int32_t>>* origins) {
  CharClassTable table;
  table.runs_.clear();
  origins->clear();
  std::map<std::pair<int32_t, int32_t>, int32_t> ids;
  for (size_t i = 0, j = 0; i < a.runs_.size() && j < b.runs_.size();) {
    const Run& x = a.runs_[i];
    const Run& y = b.runs_[j];
    const auto [it, added] = ids.try_emplace({x.cls, y.cls}, static_cast<int32_t>(origins->size()));
    if (added) origins->emplace_back(x.cls, y.cls);
    const uint32_t high = std::min(x.high, y.high);
    table.runs_.push_back({std::max(x.low, y.low), high, it->second});
    if (x.high == high) ++i;
    if (y.high == high) ++j;
  }
  table.size_ = static_cast<int32_t>(origins->size());
  return table;
}

int32_t CharClassTable::of(uint32_t code_point) const {
  const auto after = std::upper_bound(runs_.begin(), runs_.end(), code_point,
                                      [](uint32_t c, const Run& run) { return c < run.low; });
  return std::prev(after)->cls;
}

std::vector<int32_t> CharClassTable::ClassesOf(const CharSet& set) const {
  std::vector<int32_t> out;
  for (const CharSet::Range& r : set.ranges()) {
    auto it = std::upper_bound(runs_.begin(), runs_.end(), r.low,
                               [](uint32_t c, const Run& run) { return c < run.low; });
    for (--it; it != runs_.end() && it->low <= r.high; ++it) out.push_back(it->cls);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

CharClassTable CharClassTable::Merge(const std::vector<int32_t>& merged, int32_t size) const {
  CharClassTable table;
  table.runs_.clear();
  for (const Run& run : runs_) {
    const int32_t cls = merged[run.cls];
    if (!table.runs_.empty() && table.runs_.back().cls == cls) {
      table.runs_.back().high = run.high;
    } else {
      table.runs_.push_back({run.low, run.high, cls});
    }
  }
  table.size_ = size;
  return table;
}

CharAutomaton CharAutomaton::All() { return {CharClassTable(), {0}, {1}}; }

CharAutomaton CharAutomaton::Words(const std::vector<std::u32string>& words) {
  CharSet used;
  std::vector<CharSet> sets;
  for (const std::u32string& word : words) {
    for (const char32_t c : word) {
      if (used.Contains(c)) continue;
      used.Add(c, c);
      sets.push_back({{c, c}});
    }
  }
  CharClassTable classes = CharClassTable::Of(sets);
  const auto n = static_cast<size_t>(classes.size());
  std::vector<int32_t> next(n, kDead);
  std::vector<uint8_t> accepts(1, 0);
  for (const std::u32string& word : words) {
    int32_t state = 0;
    for (const char32_t c : word) {
      const size_t at = static_cast<size_t>(state) * n + classes.of(c);
      if (next[at] == kDead) {
        next[at] = static_cast<int32_t>(accepts.size());
        accepts.push_back(0);
        next.resize(next.size() + n, kDead);
      }
      state = next[at];
    }
    accepts[state] = 1;
  }
  return CharAutomaton(std::move(classes), std::move(next), std::move(accepts)).Minimized();
}

CharAutomaton CharAutomaton::Length(int64_t min, int64_t max) {
  const auto last = static_cast<int32_t>(max < 0 ? min : max);
  std::vector<int32_t> next;
  std::vector<uint8_t> accepts;
  for (int32_t i = 0; i <= last; ++i) {
    next.push_back(i < last ? i + 1 : max < 0 ? i : kDead);
    accepts.push_back(i >= min);
  }
  if (max >= 0 && max < min) return {};
  return {CharClassTable(), std::move(next), std::move(accepts)};
}

template <typename Accept>
absl::StatusOr<CharAutomaton> CharAutomaton::Product(const CharAutomaton& a, const CharAutomaton& b,
                                                     Accept accept) {
  std::vector<std::pair<int32_t, int32_t>> origins;
  CharClassTable classes = CharClassTable::Refine(a.classes_, b.classes_, &origins);
  absl::flat_hash_map<std::pair<int32_t, int32_t>, int32_t> ids{{{0, 0}, 0}};
  std::vector<std::pair<int32_t, int32_t>> states{{0, 0}};
  std::vector<int32_t> next;
  std::vector<uint8_t> accepts;
  for (size_t s = 0; s < states.size(); ++s) {
    const auto [x, y] = states[s];
    accepts.push_back(accept(x != kDead && a.accepts(x), y != kDead && b.accepts(y)) ? 1 : 0);
    for (const auto& [cls_a, cls_b] : origins) {
      const std::pair<int32_t, int32_t> to{x == kDead ? kDead : a.Next(x, cls_a),
                                           y == kDead ? kDead : b.Next(y, cls_b)};
      const auto [it, added] = ids.try_emplace(to, static_cast<int32_t>(states.size()));
      if (added) states.push_back(to);
      next.push_back(it->second);
    }
    if (states.size() > 4 * kMaxStates)
      return absl::ResourceExhaustedError("the automaton is too large");
  }
  CharAutomaton out =
      CharAutomaton(std::move(classes), std::move(next), std::move(accepts)).Minimized();
  if (out.num_states() > kMaxStates)
    return absl::ResourceExhaustedError("the automaton is too large");
  return out;
}

absl::StatusOr<CharAutomaton> CharAutomaton::And(const CharAutomaton& a, const CharAutomaton& b) {
  if (a.IsAll()) return b;
  if (b.IsAll()) return a;
  return Product(a, b, [](bool x, bool y) { return x && y; });
}

absl::StatusOr<CharAutomaton> CharAutomaton::Or(const CharAutomaton& a, const CharAutomaton& b) {
  if (a.empty()) return b;
  if (b.empty()) return a;
  return Product(a, b, [](bool x, bool y) { return x || y; });
}

CharAutomaton CharAutomaton::Not() const {
  // The dead state becomes one that accepts.
  const int32_t dead = num_states();
  CharAutomaton out = *this;
  for (int32_t& to : out.next_) to = to == kDead ? dead : to;
  out.next_.resize(out.next_.size() + classes_.size(), dead);
  out.accepts_.push_back(0);
  for (uint8_t& x : out.accepts_) x = x == 0 ? 1 : 0;
  return out.Minimized();
}

namespace {

/// Hopcroft's partition of the states in `order` into those that no word tells apart: the number of
/// each one's block, in the order in which blocks first appear; kDead for other states.
std::vector<int32_t> Blocks(const std::vector<int32_t>& next, const std::vector<uint8_t>& accepts,
                            size_t n, const std::vector<int32_t>& order,
                            const std::vector<uint8_t>& alive) {
  const auto count = static_cast<int32_t>(order.size());
  // Predecessors by class and target, as one flat list.
  std::vector<int32_t> position(accepts.size(), -1);
  for (int32_t i = 0; i < count; ++i) position[order[i]] = i;
  std::vector<int32_t> offsets(n * count + 1, 0);
  const auto each_edge = [&](auto&& visit) {
    for (int32_t i = 0; i < count; ++i) {
      for (size_t c = 0; c < n; ++c) {
        const int32_t to = next[order[i] * n + c];
        if (to >= 0 && alive[to] != 0) visit(i, c, position[to]);
      }
    }
  };
  each_edge([&](int32_t, size_t c, int32_t to) { ++offsets[c * count + to + 1]; });
  for (size_t i = 1; i < offsets.size(); ++i) offsets[i] += offsets[i - 1];
  std::vector<int32_t> sources(offsets.back());
  std::vector<int32_t> filled(offsets.begin(), offsets.end() - 1);
  each_edge([&](int32_t from, size_t c, int32_t to) { sources[filled[c * count + to]++] = from; });

  struct Block {
    int32_t begin, end, marked;
  };
  std::vector<int32_t> items(count), place(count), block(count, 0);
  std::vector<Block> blocks;
  for (const uint8_t kind : {uint8_t{0}, uint8_t{1}}) {
    const int32_t begin = blocks.empty() ? 0 : blocks.back().end;
    int32_t end = begin;
    for (int32_t i = 0; i < count; ++i) {
      if (accepts[order[i]] != kind) continue;
      items[end] = i;
      place[i] = end++;
      block[i] = static_cast<int32_t>(blocks.size());
    }
    if (end > begin) blocks.push_back({begin, end, 0});
  }
  std::vector<int32_t> work(blocks.size());
  std::vector<uint8_t> queued(blocks.size(), 1);
  for (size_t b = 0; b < work.size(); ++b) work[b] = static_cast<int32_t>(b);
  std::vector<int32_t> splitter, touched;
  while (!work.empty()) {
    const int32_t chosen = work.back();
    work.pop_back();
    queued[chosen] = 0;
    splitter.assign(items.begin() + blocks[chosen].begin, items.begin() + blocks[chosen].end);
    for (size_t c = 0; c < n; ++c) {
      touched.clear();
      for (const int32_t to : splitter) {
        const size_t edge = c * count + to;
        for (int32_t e = offsets[edge]; e < offsets[edge + 1]; ++e) {
          const int32_t s = sources[e];
          Block& b = blocks[block[s]];
          const int32_t target = b.begin + b.marked;
          if (place[s] < target) continue;  // marked before
          if (b.marked++ == 0) touched.push_back(block[s]);
          const int32_t other = items[target];
          std::swap(items[place[s]], items[target]);
          std::swap(place[s], place[other]);
        }
      }
      for (const int32_t t : touched) {
        const int32_t marked = std::exchange(blocks[t].marked, 0);
        if (marked == blocks[t].end - blocks[t].begin) continue;
        const int32_t middle = blocks[t].begin + marked;
        const auto added = static_cast<int32_t>(blocks.size());
        // The smaller half gets the new number.
        const bool first = marked <= blocks[t].end - middle;
        const Block made =
            first ? Block{blocks[t].begin, middle, 0} : Block{middle, blocks[t].end, 0};
        (first ? blocks[t].begin : blocks[t].end) = middle;
        blocks.push_back(made);
        for (int32_t i = made.begin; i < made.end; ++i) block[items[i]] = added;
        queued.push_back(1);
        work.push_back(added);
      }
    }
  }
  std::vector<int32_t> renamed(blocks.size(), -1), out(accepts.size(), CharAutomaton::kDead);
  int32_t num_named = 0;
  for (int32_t i = 0; i < count; ++i) {
    int32_t& name = renamed[block[i]];
    if (name < 0) name = num_named++;
    out[order[i]] = name;
  }
  return out;
}

}  // namespace

CharAutomaton CharAutomaton::Minimized() const {
  const auto n = static_cast<size_t>(classes_.size());
  const size_t count = accepts_.size();
  // Which states are reached, in order of a walk, and which of them lead to acceptance.
  std::vector<int32_t> order{0};
  std::vector<uint8_t> reached(count, 0);
  reached[0] = 1;
  std::vector<std::vector<int32_t>> sources(count);
  for (size_t i = 0; i < order.size(); ++i) {
    int32_t previous = kDead;
    for (size_t c = 0; c < n; ++c) {
      const int32_t to = next_[order[i] * n + c];
      if (to == kDead || to == previous) continue;
      previous = to;
      sources[to].push_back(order[i]);
      if (reached[to] == 0) order.push_back(to);
      reached[to] = 1;
    }
  }
  std::vector<uint8_t> alive(count, 0);
  std::vector<int32_t> work;
  for (const int32_t s : order) {
    if (accepts_[s] != 0) work.push_back(s), alive[s] = 1;
  }
  while (!work.empty()) {
    const int32_t s = work.back();
    work.pop_back();
    for (const int32_t from : sources[s]) {
      if (alive[from] == 0) work.push_back(from), alive[from] = 1;
    }
  }
  if (alive[0] == 0) return {};
  std::erase_if(order, [&](int32_t s) { return alive[s] == 0; });
  const std::vector<int32_t> block = Blocks(next_, accepts_, n, order, alive);
  const auto num_blocks = static_cast<size_t>(*std::max_element(block.begin(), block.end())) + 1;
  std::vector<int32_t> next(num_blocks * n, kDead);
  std::vector<uint8_t> accepts(num_blocks, 0);
  for (const int32_t s : order) {
    accepts[block[s]] = accepts_[s];
    for (size_t c = 0; c < n; ++c) {
      const int32_t to = next_[s * n + c];
      next[block[s] * n + c] = to == kDead ? kDead : block[to];
    }
  }
  // Classes with equal columns are one.
  absl::flat_hash_map<std::vector<int32_t>, int32_t> columns;
  std::vector<int32_t> merged(n);
  std::vector<size_t> first;
  for (size_t c = 0; c < n; ++c) {
    std::vector<int32_t> column(num_blocks);
    for (size_t s = 0; s < num_blocks; ++s) column[s] = next[s * n + c];
    const auto [it, added] =
        columns.try_emplace(std::move(column), static_cast<int32_t>(columns.size()));
    if (added) first.push_back(c);
    merged[c] = it->second;
  }
  std::vector<int32_t> narrow;
  narrow.reserve(num_blocks * first.size());
  for (size_t s = 0; s < num_blocks; ++s) {
    for (const size_t c : first) narrow.push_back(next[s * n + c]);
  }
  return {classes_.Merge(merged, static_cast<int32_t>(first.size())), std::move(narrow),
          std::move(accepts)};
}

bool CharAutomaton::Matches(std::u32string_view text) const {
  int32_t state = 0;
  for (const char32_t c : text) {
    state = Next(state, classes_.of(c));
    if (state == kDead) return false;
  }
  return accepts(state);
}

bool CharAutomaton::empty() const {
  return std::find(accepts_.begin(), accepts_.end(), 1) == accepts_.end();
}

bool CharAutomaton::IsAll() const {
  return num_states() == 1 && accepts(0) && classes_.size() == 1 && next_[0] == 0;
}

}  // namespace penstock::grammar
