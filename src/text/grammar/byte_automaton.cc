#include "text/grammar/byte_automaton.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"

namespace penstock::grammar {
namespace {

using ByteRow = std::array<int32_t, 256>;

/// Where code points, or what is left of their encodings, lead: sorted ranges of values.
struct CodeRun {
  uint32_t low, high;
  int32_t target;
  friend bool operator==(const CodeRun&, const CodeRun&) = default;
  friend auto operator<=>(const CodeRun&, const CodeRun&) = default;
};
using CodeRuns = std::vector<CodeRun>;

/// The runs inside [low, high], counted from `low`.
CodeRuns Slice(const CodeRuns& runs, uint32_t low, uint32_t high) {
  CodeRuns out;
  auto it = std::lower_bound(runs.begin(), runs.end(), low,
                             [](const CodeRun& r, uint32_t x) { return r.high < x; });
  for (; it != runs.end() && it->low <= high; ++it) {
    const CodeRun run{std::max(it->low, low) - low, std::min(it->high, high) - low, it->target};
    if (!out.empty() && out.back().target == run.target && out.back().high + 1 == run.low) {
      out.back().high = run.high;
    } else {
      out.push_back(run);
    }
  }
  return out;
}

/// Writes a language of code points as bytes. States that wait for the same rests are one.
class CodeWriter {
 public:
  CodeWriter(const CharAutomaton& chars, TextEncoding encoding)
      : chars_(chars), json_(encoding == TextEncoding::kJsonString) {}

  ByteAutomaton Write() {
    if (static_cast<size_t>(chars_.num_states()) > ByteAutomaton::kMaxStates) {
      refused_ = true;
      return {std::vector<ByteRow>(1), {0}};
    }
    // The quotes are two states around those of the characters.
    const int32_t first = json_ ? 1 : 0;
    for (int32_t s = 0; s < chars_.num_states() + first; ++s) NewState();
    const int32_t end = json_ ? NewState() : ByteAutomaton::kDead;
    if (json_) {
      rows_[0]['"'] = first;
      accepts_[end] = 1;
    }
    for (int32_t s = 0; s < chars_.num_states() && !too_large(); ++s) {
      CodeRuns runs;
      for (const CharClassTable::Run& run : chars_.classes().runs()) {
        const int32_t to = chars_.Next(s, run.cls);
        if (to != CharAutomaton::kDead) runs.push_back({run.low, run.high, to + first});
      }
      ByteRow row;
      row.fill(ByteAutomaton::kDead);
      FillBoundary(runs, row);
      rows_[s + first] = row;  // not in place: states are added meanwhile
      if (!json_) accepts_[s] = chars_.accepts(s) ? 1 : 0;
      if (json_ && chars_.accepts(s)) rows_[s + first]['"'] = end;
    }
    if (too_large()) return {std::vector<ByteRow>(1), {0}};
    DropDeadEnds();
    return {rows_, std::move(accepts_)};
  }

  bool too_large() const { return refused_ || rows_.size() > ByteAutomaton::kMaxStates; }

 private:
  /// Bytes that lead to no accepting state lead nowhere.
  void DropDeadEnds() {
    std::vector<std::vector<int32_t>> sources(rows_.size());
    for (size_t s = 0; s < rows_.size(); ++s) {
      int32_t previous = ByteAutomaton::kDead;
      for (const int32_t to : rows_[s]) {
        if (to != ByteAutomaton::kDead && to != previous)
          sources[to].push_back(static_cast<int32_t>(s));
        previous = to;
      }
    }
    std::vector<uint8_t> alive = accepts_;
    std::vector<int32_t> work;
    for (size_t s = 0; s < alive.size(); ++s) {
      if (alive[s] != 0) work.push_back(static_cast<int32_t>(s));
    }
    while (!work.empty()) {
      const int32_t state = work.back();
      work.pop_back();
      for (const int32_t from : sources[state]) {
        if (std::exchange(alive[from], 1) == 0) work.push_back(from);
      }
    }
    for (ByteRow& row : rows_) {
      for (int32_t& to : row) {
        if (to != ByteAutomaton::kDead && alive[to] == 0) to = ByteAutomaton::kDead;
      }
    }
  }

  enum class Stage : uint8_t { kUtf8, kHex, kEscape, kSecondSlash, kSecondU };
  using Key = std::pair<std::pair<Stage, int>, CodeRuns>;

  int32_t NewState() {
    rows_.emplace_back().fill(ByteAutomaton::kDead);
    accepts_.push_back(0);
    return static_cast<int32_t>(rows_.size()) - 1;
  }

  /// The state that waits for `runs`, of `left` more units; kDead where there are none.
  int32_t StateOf(Stage stage, int left, CodeRuns runs) {
    if (runs.empty()) return ByteAutomaton::kDead;
    const auto [it, added] = ids_.try_emplace(Key(std::pair(stage, left), std::move(runs)), 0);
    if (!added) return it->second;
    const int32_t state = it->second = NewState();
    const CodeRuns& own = it->first.second;  // nodes of a std::map stay where they are
    ByteRow row;
    row.fill(ByteAutomaton::kDead);
    switch (stage) {
      case Stage::kUtf8:
        FillUnits(own, stage, left, 64, [&](uint32_t unit, int32_t to) { row[0x80 + unit] = to; });
        break;
      case Stage::kHex:
        FillUnits(own, stage, left, 16, [&](uint32_t unit, int32_t to) {
          row[static_cast<uint8_t>("0123456789abcdef"[unit])] = to;
          row[static_cast<uint8_t>("0123456789ABCDEF"[unit])] = to;
        });
        break;
      case Stage::kEscape:
        FillEscape(own, row);
        break;
      case Stage::kSecondSlash:
        row['\\'] = StateOf(Stage::kSecondU, 0, own);
        break;
      case Stage::kSecondU: {
        CodeRuns low = own;
        for (CodeRun& run : low) {
          run.low += 0xDC00;
          run.high += 0xDC00;
        }
        row['u'] = StateOf(Stage::kHex, 4, std::move(low));
        break;
      }
    }
    rows_[state] = row;
    return state;
  }

  template <typename Set>
  void FillUnits(const CodeRuns& runs, Stage stage, int left, uint32_t radix, Set set) {
    uint32_t size = 1;
    for (int i = 1; i < left; ++i) size *= radix;
    if (runs.size() == 1 && runs[0].low == 0 && runs[0].high == radix * size - 1) {
      const int32_t target = runs[0].target;
      const int32_t to = left == 1 ? target : StateOf(stage, left - 1, {{0, size - 1, target}});
      for (uint32_t unit = 0; unit < radix; ++unit) set(unit, to);
      return;
    }
    for (uint32_t unit = 0; unit < radix; ++unit) {
      CodeRuns rest = Slice(runs, unit * size, unit * size + size - 1);
      if (rest.empty()) continue;
      set(unit, left == 1 ? rest.front().target : StateOf(stage, left - 1, std::move(rest)));
    }
  }

  void FillEscape(const CodeRuns& runs, ByteRow& row) {
    const auto one = [&](char letter, uint32_t c) {
      const CodeRuns found = Slice(runs, c, c);
      if (!found.empty()) row[static_cast<uint8_t>(letter)] = found.front().target;
    };
    one('"', '"');
    one('\\', '\\');
    one('/', '/');
    one('b', '\b');
    one('f', '\f');
    one('n', '\n');
    one('r', '\r');
    one('t', '\t');
    row['u'] = HexState(runs);
  }

  /// After "\u": control characters and what lies beyond ASCII.
  int32_t HexState(const CodeRuns& runs) {
    CodeRuns hex = Slice(runs, 0, 0x1F);
    const auto append = [&](uint32_t low, uint32_t high) {
      for (const CodeRun& run : Slice(runs, low, high))
        hex.push_back({run.low + low, run.high + low, run.target});
    };
    append(0x7F, kMaxCodePoint);
    // Escapes of many states lead to the same.
    const auto [it, added] = hexes_.try_emplace(hex, ByteAutomaton::kDead);
    if (!added) return it->second;
    hex = Slice(runs, 0, 0x1F);
    append(0x7F, 0xD7FF);
    for (uint32_t high = 0, count = 1; high < 0x400; high += count) {
      const uint32_t base = 0x10000 + high * 0x400;
      CodeRuns low = Slice(runs, base, kMaxCodePoint);
      // Blocks that one run covers are all alike.
      const bool whole = !low.empty() && low[0].low == 0 && low[0].high >= 0x3FF;
      count = whole ? (low[0].high + 1) / 0x400 : 1;
      const int32_t to = StateOf(Stage::kSecondSlash, 0, Slice(low, 0, 0x3FF));
      if (to == ByteAutomaton::kDead) continue;
      if (hex.empty() || hex.back().target != to || hex.back().high + 1 != 0xD800 + high) {
        hex.push_back({0xD800 + high, 0xD800 + high + count - 1, to});
      } else {
        hex.back().high = 0xD800 + high + count - 1;
      }
    }
    append(0xE000, 0xFFFF);
    return it->second = StateOf(Stage::kHex, 4, std::move(hex));
  }

  void FillBoundary(const CodeRuns& runs, ByteRow& row) {
    for (const CodeRun& run : runs) {
      for (uint32_t c = std::max(run.low, json_ ? 0x20u : 0u); c <= std::min(run.high, 0x7Fu);
           ++c) {
        if (!json_ || (c != '"' && c != '\\')) row[c] = run.target;
      }
    }
    if (json_) row['\\'] = StateOf(Stage::kEscape, 0, runs);
    // States mostly agree about what lies beyond ASCII.
    CodeRuns wide = Slice(runs, 0x80, kMaxCodePoint);
    const auto [it, added] = leads_.try_emplace(wide);
    if (added) {
      for (CodeRun& run : wide) {
        run.low += 0x80;
        run.high += 0x80;
      }
      it->second = Leads(wide);
    }
    std::copy(it->second.begin(), it->second.end(), row.begin() + 0x80);
  }

  std::array<int32_t, 128> Leads(const CodeRuns& runs) {
    std::array<int32_t, 128> out;
    out.fill(ByteAutomaton::kDead);
    for (uint32_t lead = 0xC2; lead <= 0xDF; ++lead) {
      const uint32_t base = (lead & 0x1F) << 6;
      out[lead - 0x80] = StateOf(Stage::kUtf8, 1, Slice(runs, base, base + 0x3F));
    }
    for (uint32_t lead = 0xE0; lead <= 0xEF; ++lead) {
      const uint32_t base = (lead & 0xF) << 12;
      CodeRuns rest = Slice(runs, base, base + 0xFFF);
      if (lead == 0xE0) rest = Above(rest, 0x800);
      if (lead == 0xED) rest = Slice(rest, 0, 0x7FF);
      out[lead - 0x80] = StateOf(Stage::kUtf8, 2, std::move(rest));
    }
    for (uint32_t lead = 0xF0; lead <= 0xF4; ++lead) {
      const uint32_t base = (lead & 0x7) << 18;
      CodeRuns rest = Slice(runs, base, base + 0x3FFFF);
      if (lead == 0xF0) rest = Above(rest, 0x10000);
      out[lead - 0x80] = StateOf(Stage::kUtf8, 3, std::move(rest));
    }
    return out;
  }

  static CodeRuns Above(const CodeRuns& runs, uint32_t low) {
    CodeRuns out = Slice(runs, low, kMaxCodePoint);
    for (CodeRun& run : out) {
      run.low += low;
      run.high += low;
    }
    return out;
  }

  const CharAutomaton& chars_;
  const bool json_;
  std::vector<ByteRow> rows_;
  std::vector<uint8_t> accepts_;
  bool refused_ = false;  // too many states before any was written
  std::map<Key, int32_t> ids_;
  std::map<CodeRuns, std::array<int32_t, 128>> leads_;
  std::map<CodeRuns, int32_t> hexes_;
};

int32_t FreeStateOf(const CharAutomaton& chars) {
  for (int32_t s = 0; s < chars.num_states(); ++s) {
    if (!chars.accepts(s)) continue;
    int32_t cls = 0;
    while (cls < chars.classes().size() && chars.Next(s, cls) == s) ++cls;
    if (cls == chars.classes().size()) return s;
  }
  return CharAutomaton::kDead;
}

}  // namespace

ByteAutomaton::ByteAutomaton(const std::vector<std::array<int32_t, 256>>& rows,
                             std::vector<uint8_t> accepts)
    : flags_(std::move(accepts)) {
  absl::flat_hash_map<std::vector<int32_t>, uint8_t> columns;
  std::vector<uint8_t> first;  // a byte of each class
  for (int b = 0; b < 256; ++b) {
    std::vector<int32_t> column(rows.size());
    for (size_t s = 0; s < rows.size(); ++s) column[s] = rows[s][b];
    const auto [it, added] =
        columns.try_emplace(std::move(column), static_cast<uint8_t>(columns.size()));
    if (added) first.push_back(static_cast<uint8_t>(b));
    class_of_[b] = it->second;
  }
  num_classes_ = first.size();
  next_.reserve(rows.size() * num_classes_);
  for (const auto& row : rows) {
    for (const uint8_t b : first) next_.push_back(row[b]);
  }
  Complete();
}

ByteAutomaton::ByteAutomaton(const std::array<uint8_t, 256>& class_of, std::vector<int32_t> next,
                             std::vector<uint8_t> accepts)
    : class_of_(class_of),
      num_classes_(accepts.empty() ? 0 : next.size() / accepts.size()),
      next_(std::move(next)),
      flags_(std::move(accepts)) {
  Complete();
}

void ByteAutomaton::Complete() {
  std::vector<uint16_t> sizes(num_classes_, 0);
  for (const uint8_t cls : class_of_) ++sizes[cls];
  fan_out_.resize(flags_.size());
  for (size_t s = 0; s < flags_.size(); ++s) {
    for (size_t cls = 0; cls < num_classes_; ++cls)
      if (next_[s * num_classes_ + cls] != kDead) fan_out_[s] += sizes[cls];
    if (fan_out_[s] > 0) flags_[s] |= 2;
  }
  digest_ = {absl::HashOf(class_of_, next_, flags_), absl::HashOf(1, flags_, next_, class_of_)};
}

ByteAutomaton ByteAutomaton::Literal(std::string_view text) {
  if (text.size() >= kMaxStates) {
    ByteAutomaton none({std::array<int32_t, 256>{}}, {0});
    none.too_large_ = true;
    return none;
  }
  std::vector<std::array<int32_t, 256>> rows(text.size() + 1);
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i].fill(kDead);
    if (i < text.size()) rows[i][static_cast<uint8_t>(text[i])] = static_cast<int32_t>(i) + 1;
  }
  std::vector<uint8_t> accepts(text.size() + 1, 0);
  accepts.back() = 1;
  return {rows, std::move(accepts)};
}

ByteAutomaton ByteAutomaton::Of(const CharAutomaton& chars, TextEncoding encoding) {
  CodeWriter writer(chars, encoding);
  ByteAutomaton out = writer.Write();
  out.too_large_ = writer.too_large();
  if (encoding == TextEncoding::kJsonString) {
    const int32_t free = FreeStateOf(chars);
    if (free != CharAutomaton::kDead) out.free_state_ = free + 1;
  }
  return out;
}

}  // namespace penstock::grammar
