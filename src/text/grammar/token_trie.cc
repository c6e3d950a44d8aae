#include "text/grammar/token_trie.h"

#include <algorithm>

namespace penstock::grammar {

TokenTrie::TokenTrie(std::vector<std::pair<std::string, TokenId>> tokens) {
  std::sort(tokens.begin(), tokens.end());
  constexpr uint32_t kNone = UINT32_MAX;
  roots_.fill(kNone);
  std::vector<uint32_t> open;  // nodes on the way to the last one
  std::string path;
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

}  // namespace penstock::grammar
