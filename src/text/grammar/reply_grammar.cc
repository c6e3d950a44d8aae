#include "text/grammar/reply_grammar.h"

#include <array>
#include <utility>

namespace penstock::grammar {
namespace {

using Row = std::array<int32_t, 256>;
using Op = Instruction::Kind;

int32_t AddTerminal(ByteAutomaton automaton, int32_t next, Grammar& grammar) {
  Instruction made;
  made.kind = Op::kTerminal;
  made.terminal = static_cast<int32_t>(grammar.terminals.size());
  made.next = next;
  grammar.terminals.push_back(std::make_shared<const ByteAutomaton>(std::move(automaton)));
  grammar.program.push_back(std::move(made));
  return static_cast<int32_t>(grammar.program.size()) - 1;
}

/// Either of them goes on.
int32_t AddSplit(std::vector<int32_t> targets, Grammar& grammar) {
  Instruction split;
  split.kind = Op::kSplit;
  split.targets = std::move(targets);
  grammar.program.push_back(std::move(split));
  return static_cast<int32_t>(grammar.program.size()) - 1;
}

}  // namespace

ByteAutomaton SomeSpace() {
  constexpr int kMost = 4;
  std::vector<Row> rows(kMost + 1);
  for (int i = 0; i <= kMost; ++i) {
    rows[i].fill(ByteAutomaton::kDead);
    for (const char c : {' ', '\t', '\r', '\n'}) {
      if (i < kMost) rows[i][static_cast<uint8_t>(c)] = i + 1;
    }
  }
  return {rows, std::vector<uint8_t>(rows.size(), 1)};
}

ByteAutomaton TextUntil(std::string_view end, bool special, bool other_specials, bool closing) {
  const auto n = static_cast<int32_t>(end.size());
  // State i: i bytes of `end` came last; n: it is there; behind that the special token's bytes.
  std::vector<Row> rows(static_cast<size_t>(n) + 1 + (special ? n : 0));
  for (Row& row : rows) row.fill(ByteAutomaton::kDead);
  const auto follow = [&](int32_t state, uint8_t byte) {
    std::string seen(end.substr(0, static_cast<size_t>(state)));
    seen += static_cast<char>(byte);
    while (!end.starts_with(seen)) seen.erase(0, 1);
    return static_cast<int32_t>(seen.size());
  };
  if (closing) {
    for (int32_t state = special ? 1 : 0; state < n; ++state)
      rows[state][static_cast<uint8_t>(end[state])] = state + 1;
    if (special) {
      for (int32_t state = 0; state < n; ++state)
        rows[state][static_cast<uint8_t>(kSpecialMark)] = n + 1;
    }
  }
  for (int32_t state = 0; state < n && !closing; ++state) {
    for (int byte = 0; byte < 256; ++byte) {
      const bool mark = byte == static_cast<uint8_t>(kSpecialMark);
      if (!mark || other_specials) rows[state][byte] = follow(state, static_cast<uint8_t>(byte));
      if (mark && special) rows[state][byte] = n + 1;
    }
  }
  for (int32_t i = 0; special && i < n; ++i) {
    Row& row = rows[n + 1 + i];
    if (other_specials && !closing) row = rows[0];
    row[static_cast<uint8_t>(end[i])] = i + 1 == n ? n : n + 2 + i;
  }
  std::vector<uint8_t> accepts(rows.size(), 0);
  accepts[n] = 1;
  return {rows, std::move(accepts)};
}

std::string MarkSpecials(std::string_view text, const std::vector<std::string_view>& markers,
                         IsSpecial is_special) {
  std::string out;
  while (!text.empty()) {
    size_t taken = 1;
    for (const std::string_view marker : markers) {
      if (!text.starts_with(marker)) continue;
      if (is_special(marker)) out += kSpecialMark;
      taken = marker.size();
      break;
    }
    out += text.substr(0, taken);
    text.remove_prefix(taken);
  }
  return out;
}

Grammar AnyReply() {
  Grammar grammar;
  grammar.program.emplace_back();  // returns
  Row row;
  row.fill(0);
  grammar.start = AddTerminal({{row}, {0}}, 0, grammar);
  grammar.program[grammar.start].endless = true;
  return grammar;
}

Grammar Either(const Grammar& one, const Grammar& other) {
  Grammar grammar = one;
  const int32_t start = AppendProgram(other, grammar);
  grammar.start = AddSplit({one.start, start}, grammar);
  return grammar;
}

Grammar BehindReasoning(const Grammar& after, const ReasoningFormat& format, bool has_begun,
                        AfterReasoning what, IsSpecial is_special) {
  const bool form = what == AfterReasoning::kForm;
  const bool anything = what == AfterReasoning::kAnything;
  Grammar grammar = after;
  const auto literal = [&](std::string_view text, int32_t next) {
    if (text.empty()) return next;
    const std::string marked = MarkSpecials(text, MarkersOf({nullptr, &format}), is_special);
    return AddTerminal(ByteAutomaton::Literal(marked), next, grammar);
  };
  int32_t behind = after.start;
  if (form) behind = literal(format.after, AddTerminal(SomeSpace(), after.start, grammar));
  const bool special = is_special(format.end);
  grammar.reasoning = AddTerminal(TextUntil(format.end, special, anything, false), behind, grammar);
  grammar.closing = AddTerminal(TextUntil(format.end, special, false, true), behind, grammar);
  grammar.start = grammar.reasoning;
  if (!has_begun)
    grammar.start = AddTerminal(SomeSpace(), literal(format.begin, grammar.reasoning), grammar);
  if (!anything && has_begun) return grammar;
  grammar.start = AddSplit({grammar.start, after.start}, grammar);
  return grammar;
}

Grammar BehindRecipient(const Grammar& content, const CallFormat& format) {
  if (format.body != CallBody::kNameLine) return content;
  Grammar grammar = content;
  const int32_t line = AddTerminal(ByteAutomaton::Literal("all\n"), content.start, grammar);
  grammar.start = AddSplit({line, content.start}, grammar);
  return grammar;
}

Grammar BehindMarkers(const Grammar& content, const ReasoningFormat& format, IsSpecial is_special) {
  if (format.content.empty()) return content;
  Grammar grammar = content;
  const std::string marked =
      MarkSpecials(format.content, MarkersOf({nullptr, &format}), is_special);
  grammar.start = AddTerminal(ByteAutomaton::Literal(marked), content.start, grammar);
  return grammar;
}

}  // namespace penstock::grammar
