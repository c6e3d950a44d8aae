#include "text/grammar/forced_text.h"

#include <algorithm>
#include <utility>

#include "text/grammar/mask_writer.h"
#include "text/grammar/reply_grammar.h"

namespace penstock::grammar {
namespace {

constexpr size_t kMostBytes = 256;
constexpr size_t kContextTokens = 3;  // that a tokenizer may look back at
constexpr size_t kMostFound = 10'000;

/// The byte that alone leads on; -1: there is none, or more than one.
int OnlyByte(const StackMachine& machine, const ConfigSet& at) {
  if (at.finished || at.cut != Limit::kNone || at.ways.empty()) return -1;
  int only = -1;
  for (const Config& way : at.ways) {
    if (machine.automaton(way.pc).fan_out(way.state) != 1) return -1;
  }
  for (const Config& way : at.ways) {
    const ByteAutomaton& automaton = machine.automaton(way.pc);
    int byte = 0;
    while (automaton.Next(way.state, static_cast<uint8_t>(byte)) == ByteAutomaton::kDead) ++byte;
    if (only >= 0 && only != byte) return -1;
    only = byte;
  }
  return only;
}

}  // namespace

std::string ForcedText::OnlyText(StackMachine& machine, ConfigSet& at) {
  std::string text;
  ConfigSet next;
  while (text.size() < kMostBytes) {
    const int byte = OnlyByte(machine, at);
    if (byte < 0) break;
    machine.Step(at, static_cast<uint8_t>(byte), next);
    std::swap(at, next);
    text += static_cast<char>(byte);
  }
  return text;
}

std::vector<ForcedText::Written> ForcedText::WritePlain(const std::string& text,
                                                        const std::string& context,
                                                        bool is_first) const {
  // Behind the context the tokens are right where one ends at its end.
  const auto behind = [&](const std::string& before) {
    std::vector<Written> written;
    std::string bytes;
    const std::string whole = before + text;
    size_t skipped = 0;  // a blank that the tokenizer has put in front
    for (const TokenId id : tokenizer_->Encode(whole, false)) {
      if (id < 0 || id >= masks_->vocab_size()) return std::vector<Written>();
      const bool at_begin = bytes.empty() && is_first && before.empty();
      const std::string& piece = (at_begin ? *first_ : *masks_).piece(id);
      if (bytes.empty() && !at_begin && piece.starts_with(' ') && !whole.starts_with(' '))
        skipped = 1;
      const size_t begin = bytes.size();
      bytes += piece;
      if (begin < before.size() + skipped && bytes.size() > before.size() + skipped)
        return std::vector<Written>();
      if (begin >= before.size() + skipped && !piece.empty()) written.push_back({id, piece.size()});
    }
    if (std::string_view(bytes).substr(std::min(skipped, bytes.size())) != whole ||
        (skipped > 0 && before.empty()))
      return std::vector<Written>();
    return written;
  };
  if (!context.empty()) {
    std::vector<Written> written = behind(context);
    if (!written.empty()) return written;
  }
  return behind("");
}

std::vector<ForcedText::Written> ForcedText::Write(std::string_view text,
                                                   absl::Span<const TokenId> before) const {
  std::string context;
  for (size_t i = before.size(); i-- > 0 && before.size() - i <= kContextTokens;) {
    const std::string& piece = masks_->piece(before[i]);
    if (piece.starts_with(kSpecialMark)) break;
    context.insert(0, piece);
  }
  std::vector<Written> all;
  while (!text.empty()) {
    if (text[0] != kSpecialMark) {
      const size_t size = std::min(text.find(kSpecialMark), text.size());
      const std::vector<Written> plain =
          WritePlain(std::string(text.substr(0, size)), context, before.empty() && all.empty());
      if (plain.empty()) break;
      all.insert(all.end(), plain.begin(), plain.end());
      text.remove_prefix(size);
      continue;
    }
    // The longest special token that is written here.
    const TokenTrie& trie = masks_->trie();
    Written longest = {-1, 0};
    uint32_t at = trie.root(static_cast<uint8_t>(text[0]));
    for (size_t size = 1; at != trie.size(); ++size) {
      const TokenTrie::Node& node = trie.node(at);
      if (node.num_tokens > 0) longest = {trie.tokens(node)[0], size};
      if (size == text.size()) break;
      uint32_t child = at + 1;
      while (child < node.end && trie.node(child).byte != static_cast<uint8_t>(text[size]))
        child = trie.node(child).end;
      at = child < node.end ? child : trie.size();
    }
    if (longest.id < 0) break;
    all.push_back(longest);
    text.remove_prefix(longest.size);
    context.clear();
  }
  return all;
}

bool ForcedText::MayCross(StackMachine& machine, const ConfigSet& end,
                          std::string_view rest) const {
  const TokenTrie& trie = masks_->trie();
  uint32_t at = trie.root(static_cast<uint8_t>(rest[0]));
  for (size_t size = 1; at != trie.size() && size < rest.size(); ++size) {
    const uint32_t last = trie.node(at).end;
    uint32_t child = at + 1;
    while (child < last && trie.node(child).byte != static_cast<uint8_t>(rest[size]))
      child = trie.node(child).end;
    at = child < last ? child : trie.size();
  }
  if (at == trie.size()) return false;
  ConfigSet next;
  for (uint32_t child = at + 1; child < trie.node(at).end; child = trie.node(child).end) {
    machine.Step(end, trie.node(child).byte, next);
    if (!next.dead()) return true;
  }
  return false;
}

std::vector<TokenId> ForcedText::Find(Matcher& matcher, absl::Span<const TokenId> before) {
  StackMachine& machine = matcher.machine();
  if (OnlyByte(machine, matcher.state()) < 0) return {};
  MaskMemo::Key key;
  const bool kept = MakeStateKey(machine, matcher.state(), masks_->trie().max_depth() + 1, key);
  if (kept) {
    for (size_t i = 0; i < kContextTokens; ++i)
      key.push_back(i < before.size() ? before[before.size() - 1 - i] : -1);
    const std::lock_guard lock(mutex_);
    const auto found = found_.find(key);
    if (found != found_.end()) return found->second;
  }
  const size_t num_nodes = machine.num_nodes();
  machine.Allow();
  ConfigSet end = matcher.state();
  const std::string text = OnlyText(machine, end);
  // Up to where tokens stand that no other could cross.
  const auto reach = static_cast<size_t>(masks_->trie().max_depth());
  size_t sure = text.size() > reach ? text.size() - reach : 0;
  while (sure < text.size() && !MayCross(machine, end, std::string_view(text).substr(sure))) ++sure;
  machine.Shrink(num_nodes);
  machine.Relax();
  if (machine.exhausted()) return {};
  std::vector<TokenId> tokens;
  size_t at = 0;
  for (const Written& one : Write(text, before)) {
    at += one.size;
    if (at > sure) break;
    tokens.push_back(one.id);
  }
  if (kept) {
    const std::lock_guard lock(mutex_);
    if (found_.size() >= kMostFound) found_.clear();
    found_.emplace(std::move(key), tokens);
  }
  return tokens;
}

}  // namespace penstock::grammar
