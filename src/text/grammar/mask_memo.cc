#include "text/grammar/mask_memo.h"

#include <algorithm>
#include <bit>

#include "absl/hash/hash.h"

namespace penstock::grammar {
namespace {

constexpr size_t kFewIds = 256;
constexpr size_t kMaxSeen = 100'000;

}  // namespace

bool MaskMemo::Get(const Key& key, absl::Span<uint32_t> words) const {
  std::shared_ptr<const Mask> mask;
  {
    const std::lock_guard lock(mutex_);
    const auto found = masks_.find(key);
    if (found == masks_.end()) return false;
    mask = found->second;
  }
  if (!mask->words.empty()) {
    const auto end = std::copy(mask->words.begin(), mask->words.end(), words.begin());
    std::fill(end, words.end(), 0);
    return true;
  }
  std::fill(words.begin(), words.end(), 0);
  for (const TokenId id : mask->ids) words[id / 32] |= 1u << (id % 32);
  return true;
}

void MaskMemo::Put(const Key& key, absl::Span<const uint32_t> words) {
  {
    const std::lock_guard lock(mutex_);
    if (seen_.size() >= kMaxSeen) seen_.clear();
    if (seen_.insert(absl::HashOf(key)).second) return;
  }
  size_t num_ids = 0;
  for (const uint32_t word : words) num_ids += static_cast<size_t>(std::popcount(word));
  auto mask = std::make_shared<Mask>();
  if (num_ids > kFewIds) {
    mask->words.assign(words.begin(), words.end());
  } else {
    for (size_t i = 0; i < words.size(); ++i) {
      for (uint32_t word = words[i]; word != 0; word &= word - 1)
        mask->ids.push_back(static_cast<TokenId>(32 * i + std::countr_zero(word)));
    }
  }
  const size_t bytes = sizeof(Mask) + 4 * (key.size() + mask->words.size() + mask->ids.size());
  const std::lock_guard lock(mutex_);
  if (bytes_ + bytes > max_bytes_) {
    masks_.clear();
    bytes_ = 0;
  }
  if (masks_.emplace(key, std::move(mask)).second) bytes_ += bytes;
}

size_t MaskMemo::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace penstock::grammar
