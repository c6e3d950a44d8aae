#include "text/grammar/token_trie.h"

#include <algorithm>

namespace penstock::grammar {

TokenTrie::TokenTrie(std::vector<std::pair<std::string_view, TokenId>> tokens) {
  std::sort(tokens.begin(), tokens.end());
  constexpr uint32_t kNone = UINT32_MAX;
  roots_.fill(kNone);
  std::vector<uint32_t> open;  // nodes on the way to the last one
  std::string_view path;
  for (const auto& [bytes, id] : tokens) {
    if (bytes.empty() || bytes.size() > UINT16_MAX) continue;
    size_t shared = 0;
    while (shared < path.size() && shared < bytes.size() && path[shared] == bytes[shared]) ++shared;
    for (; open.size() > shared; open.pop_back()) nodes_[open.back()].end = size();
    for (size_t i = shared; i < bytes.size(); ++i) {
      open.push_back(size());
      nodes_.push_back({0, static_cast<uint32_t>(tokens_.size()), 0, static_cast<uint16_t>(i),
                        static_cast<uint8_t>(bytes[i])});
    }
    if (shared == 0) roots_[static_cast<uint8_t>(bytes[0])] = open[0];
    path = bytes;
    max_depth_ = std::max(max_depth_, static_cast<int32_t>(bytes.size()));
    ++nodes_[open.back()].num_tokens;
    tokens_.push_back(id);
  }
  for (; !open.empty(); open.pop_back()) nodes_[open.back()].end = size();
  std::replace(roots_.begin(), roots_.end(), kNone, size());
}

TokenTrie TokenTrie::Behind(const std::vector<uint32_t>& nodes) const {
  TokenTrie out;
  constexpr uint32_t kNone = UINT32_MAX;
  out.roots_.fill(kNone);
  // Nodes of this tree that are one place of the new one, by their bytes; all of a level are behind
  // the node that is open before it.
  struct Level {
    std::vector<std::pair<uint8_t, uint32_t>> nodes;
    size_t next = 0;
    uint32_t before = kNone;
  };
  std::vector<Level> levels;
  size_t num_levels = 0;
  const auto add_children = [&](uint32_t index, Level& to) {
    for (uint32_t child = index + 1; child < nodes_[index].end; child = nodes_[child].end)
      to.nodes.emplace_back(nodes_[child].byte, child);
  };
  const auto open = [&](uint32_t before) -> Level& {
    if (levels.size() == num_levels) levels.emplace_back();
    Level& level = levels[num_levels++];
    level.nodes.clear();
    level.next = 0;
    level.before = before;
    return level;
  };
  Level& first = open(kNone);
  for (const uint32_t index : nodes) add_children(index, first);
  std::sort(first.nodes.begin(), first.nodes.end());
  while (num_levels > 0) {
    Level& level = levels[num_levels - 1];
    if (level.next == level.nodes.size()) {
      if (level.before != kNone) out.nodes_[level.before].end = out.size();
      --num_levels;
      continue;
    }
    const size_t begin = level.next;
    const uint8_t byte = level.nodes[begin].first;
    while (level.next < level.nodes.size() && level.nodes[level.next].first == byte) ++level.next;
    const size_t end = level.next;
    const uint32_t made = out.size();
    if (num_levels == 1) out.roots_[byte] = made;
    Node node{0, static_cast<uint32_t>(out.tokens_.size()), 0,
              static_cast<uint16_t>(num_levels - 1), byte};
    for (size_t i = begin; i < end; ++i) {
      const absl::Span<const TokenId> own = tokens(nodes_[level.nodes[i].second]);
      out.tokens_.insert(out.tokens_.end(), own.begin(), own.end());
      node.num_tokens = static_cast<uint16_t>(node.num_tokens + own.size());
    }
    out.nodes_.push_back(node);
    out.max_depth_ = std::max(out.max_depth_, static_cast<int32_t>(num_levels));
    Level& below = open(made);  // `level` may have moved
    const Level& above = levels[num_levels - 2];
    for (size_t i = begin; i < end; ++i) add_children(above.nodes[i].second, below);
    if (end - begin > 1) std::sort(below.nodes.begin(), below.nodes.end());
  }
  std::replace(out.roots_.begin(), out.roots_.end(), kNone, out.size());
  return out;
}

}  // namespace penstock::grammar
