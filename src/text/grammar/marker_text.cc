#include "text/grammar/marker_text.h"

#include <array>
#include <cstdint>
#include <utility>

#include "text/grammar/reply_grammar.h"

namespace penstock::grammar {
namespace {

using MarkerRow = std::array<int32_t, 256>;
constexpr auto kMarkByte = static_cast<uint8_t>(kSpecialMark);

}  // namespace

ByteAutomaton SpelledText(std::string_view text) {
  std::vector<MarkerRow> rows(text.size() + 1);
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i].fill(ByteAutomaton::kDead);
    if (i == text.size()) break;
    rows[i][kMarkByte] = static_cast<int32_t>(i);
    rows[i][static_cast<uint8_t>(text[i])] = static_cast<int32_t>(i) + 1;
  }
  std::vector<uint8_t> accepts(rows.size(), 0);
  accepts.back() = 1;
  return {rows, std::move(accepts)};
}

namespace {

struct MarkerStates {
  std::vector<MarkerRow> rows;
  std::vector<int> ends_here;  // the marker that came last; -1: none
};

MarkerStates StatesOf(const std::vector<std::string>& markers) {
  // The tree of all markers, whose nodes are what came last of them.
  std::vector<MarkerRow> rows(1);
  std::vector<int> ends_here(1, -1);
  rows[0].fill(ByteAutomaton::kDead);
  for (size_t m = 0; m < markers.size(); ++m) {
    int32_t at = 0;
    for (const char c : markers[m]) {
      int32_t next = rows[at][static_cast<uint8_t>(c)];
      if (next == ByteAutomaton::kDead) {
        next = static_cast<int32_t>(rows.size());
        rows[at][static_cast<uint8_t>(c)] = next;
        rows.emplace_back().fill(ByteAutomaton::kDead);
        ends_here.push_back(-1);
      }
      at = next;
    }
    ends_here[at] = static_cast<int>(m);
  }
  // Level by level: where no marker goes on, what its longest suffix that begins one goes on with.
  std::vector<int32_t> suffix(rows.size(), 0), order;
  for (int b = 0; b < 256; ++b) {
    if (rows[0][b] == ByteAutomaton::kDead) {
      rows[0][b] = 0;
    } else {
      order.push_back(rows[0][b]);
    }
  }
  for (size_t i = 0; i < order.size(); ++i) {
    const int32_t at = order[i];
    for (int b = 0; b < 256; ++b) {
      const int32_t other = rows[suffix[at]][b];
      if (rows[at][b] == ByteAutomaton::kDead) {
        rows[at][b] = other;
      } else {
        suffix[rows[at][b]] = other;
        order.push_back(rows[at][b]);
      }
    }
  }
  return {std::move(rows), std::move(ends_here)};
}

}  // namespace

ByteAutomaton TextUntilMarker(const std::vector<std::string>& markers, int which) {
  auto [rows, ends_here] = StatesOf(markers);
  std::vector<uint8_t> accepts(rows.size(), 0);
  for (size_t s = 0; s < rows.size(); ++s) {
    rows[s][kMarkByte] = static_cast<int32_t>(s);
    for (int32_t& to : rows[s]) {
      if (ends_here[to] >= 0 && ends_here[to] != which) to = ByteAutomaton::kDead;
    }
    if (ends_here[s] < 0) continue;
    rows[s].fill(ByteAutomaton::kDead);
    accepts[s] = ends_here[s] == which ? 1 : 0;
  }
  return {rows, std::move(accepts)};
}

ByteAutomaton TextWithoutMarkers(const std::vector<std::string>& markers) {
  auto [rows, ends_here] = StatesOf(markers);
  std::vector<uint8_t> accepts(rows.size(), 1);
  for (size_t s = 0; s < rows.size(); ++s) {
    rows[s][kMarkByte] = ByteAutomaton::kDead;
    accepts[s] = ends_here[s] < 0 ? 1 : 0;
    for (int32_t& to : rows[s]) {
      if (to >= 0 && (ends_here[s] >= 0 || ends_here[to] >= 0)) to = ByteAutomaton::kDead;
    }
  }
  return {rows, std::move(accepts)};
}

ByteAutomaton WithSpecials(const ByteAutomaton& text, const std::vector<std::string>& specials) {
  constexpr size_t kMostAdded = 4000;
  std::vector<MarkerRow> rows(static_cast<size_t>(text.num_states()));
  std::vector<uint8_t> accepts(rows.size());
  size_t size = 1;
  for (const std::string& special : specials) size += special.size();
  std::vector<uint8_t> takes(rows.size(), rows.size() * size <= kMostAdded ? 1 : 0);
  takes[0] = 1;
  for (int32_t s = 0; s < text.num_states(); ++s) {
    for (int b = 0; b < 256; ++b) rows[s][b] = text.Next(s, static_cast<uint8_t>(b));
    accepts[s] = text.accepts(s) ? 1 : 0;
    for (const uint8_t usual : {'.', '\n', ' ', 'e'}) {
      if (rows[s][usual] != ByteAutomaton::kDead) takes[rows[s][usual]] = 1;
    }
  }
  for (int32_t s = 0; s < text.num_states(); ++s) {
    if (takes[s] == 0) continue;
    for (const std::string& special : specials) {
      int32_t end = s;
      for (const char c : special) {
        if (end != ByteAutomaton::kDead) end = text.Next(end, static_cast<uint8_t>(c));
      }
      if (end == ByteAutomaton::kDead || special.empty()) continue;
      int32_t at = s;
      uint8_t byte = kMarkByte;
      for (size_t i = 0; i < special.size(); ++i) {
        if (rows[at][byte] == ByteAutomaton::kDead) {
          rows[at][byte] = static_cast<int32_t>(rows.size());
          rows.emplace_back().fill(ByteAutomaton::kDead);
          accepts.push_back(0);
        }
        at = rows[at][byte];
        byte = static_cast<uint8_t>(special[i]);
      }
      rows[at][byte] = end;
    }
  }
  return {rows, std::move(accepts)};
}

}  // namespace penstock::grammar
