// The byte strings of tokens as a tree in one array, walked without recursion.
// Owns nodes and token ids. Must not know grammars.
// Threads: immutable once made.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "penstock/types.h"

namespace penstock::grammar {

class TokenTrie {
 public:
  /// In the order of a walk: what lies below a node follows it, up to `end`.
  struct Node {
    uint32_t end = 0;
    uint32_t first_token = 0;  // its own tokens come first among those below it
    uint16_t num_tokens = 0;
    uint16_t depth = 0;  // bytes before this one
    uint8_t byte = 0;
  };

  TokenTrie() = default;
  /// Keeps no texts.
  explicit TokenTrie(std::vector<std::pair<std::string_view, TokenId>> tokens);

  /// Of what tokens go on with behind any of `nodes`.
  TokenTrie Behind(const std::vector<uint32_t>& nodes) const;

  uint32_t size() const { return static_cast<uint32_t>(nodes_.size()); }
  const Node& node(uint32_t index) const { return nodes_[index]; }
  /// The node of a first byte; size() where no token begins with it.
  uint32_t root(uint8_t byte) const { return roots_[byte]; }
  absl::Span<const TokenId> tokens(const Node& node) const {
    return {tokens_.data() + node.first_token, node.num_tokens};
  }
  /// Of a node and all below it.
  absl::Span<const TokenId> tokens_below(uint32_t index) const {
    const uint32_t begin = nodes_[index].first_token;
    const uint32_t next = nodes_[index].end;
    const size_t end = next < size() ? nodes_[next].first_token : tokens_.size();
    return {tokens_.data() + begin, end - begin};
  }
  size_t num_tokens() const { return tokens_.size(); }
  int32_t max_depth() const { return max_depth_; }
  size_t bytes() const { return nodes_.size() * sizeof(Node) + tokens_.size() * sizeof(TokenId); }

 private:
  std::vector<Node> nodes_;
  std::array<uint32_t, 256> roots_{};
  std::vector<TokenId> tokens_;
  int32_t max_depth_ = 0;
};

}  // namespace penstock::grammar
