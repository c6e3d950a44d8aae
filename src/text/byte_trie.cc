#include "text/byte_trie.h"

namespace penstock {

bool ByteTrie::Insert(std::string_view key, int32_t value) {
  int32_t node = kRoot;
  for (const char c : key) {
    const auto byte = static_cast<uint8_t>(c);
    int32_t next = Step(node, byte);
    if (next == kNone) {
      next = static_cast<int32_t>(values_.size());
      values_.push_back(kNone);
      if (node == kRoot) {
        first_[byte] = next;
      } else {
        edges_.emplace(Edge(node, byte), next);
      }
    }
    node = next;
  }
  if (values_[node] != kNone) return false;
  values_[node] = value;
  return true;
}

ByteTrie::Match ByteTrie::Longest(std::string_view text, size_t pos, int32_t node) const {
  Match longest;
  for (size_t i = pos; i < text.size(); ++i) {
    node = Step(node, static_cast<uint8_t>(text[i]));
    if (node == kNone) break;
    if (values_[node] != kNone) longest = {values_[node], i + 1 - pos};
  }
  return longest;
}

}  // namespace penstock
