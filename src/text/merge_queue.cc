#include "text/merge_queue.h"

#include <algorithm>
#include <array>

namespace penstock {
namespace {

// By digits of 11 bits, three of which make a position.
void SortPositions(std::vector<int32_t>* positions) {
  constexpr size_t kFew = 256;  // up to which the other way is faster
  constexpr int kDigitBits = 11;
  constexpr uint32_t kDigits = 1u << kDigitBits;
  if (std::is_sorted(positions->begin(), positions->end())) return;
  if (positions->size() <= kFew) {
    std::sort(positions->begin(), positions->end());
    return;
  }
  std::vector<int32_t> sorted(positions->size());
  for (int shift = 0; shift < 32; shift += kDigitBits) {
    const auto digit = [shift](int32_t p) {
      return static_cast<uint32_t>(p) >> shift & (kDigits - 1);
    };
    std::array<size_t, kDigits + 1> begin = {};
    for (const int32_t p : *positions) ++begin[digit(p) + 1];
    for (uint32_t i = 0; i < kDigits; ++i) begin[i + 1] += begin[i];
    for (const int32_t p : *positions) sorted[begin[digit(p)]++] = p;
    positions->swap(sorted);
  }
}

}  // namespace

void MergeQueue::Push(Entry entry) {
  if (entry.rank <= rank_) {
    late_.push(entry);
    return;
  }
  int32_t link = free_;
  if (link >= 0) {
    free_ = links_[link].next;
    links_[link] = {entry.position, -1};
  } else {
    link = static_cast<int32_t>(links_.size());
    links_.push_back({entry.position, -1});
  }
  const auto [it, is_new] = lists_.try_emplace(entry.rank, List{link, link});
  if (is_new) {
    ranks_.push(entry.rank);
    return;
  }
  links_[it->second.last].next = link;
  it->second.last = link;
}

std::optional<MergeQueue::Entry> MergeQueue::Pop() {
  if (next_in_work_ == in_work_.size() && late_.empty() && !StartRank()) return std::nullopt;
  const bool works = next_in_work_ < in_work_.size();
  const Entry next = works ? Entry{static_cast<uint32_t>(rank_), in_work_[next_in_work_]} : Entry{};
  if (!late_.empty() && (!works || IsWorse()(next, late_.top()))) {
    const Entry late = late_.top();
    late_.pop();
    return late;
  }
  ++next_in_work_;
  return next;
}

bool MergeQueue::StartRank() {
  if (ranks_.empty()) return false;
  const uint32_t rank = ranks_.top();
  ranks_.pop();
  const auto list = lists_.find(rank);
  const auto [first, last] = list->second;
  lists_.erase(list);
  in_work_.clear();
  for (int32_t link = first; link >= 0; link = links_[link].next)
    in_work_.push_back(links_[link].position);
  links_[last].next = free_;
  free_ = first;
  SortPositions(&in_work_);
  next_in_work_ = 0;
  rank_ = rank;
  return true;
}

}  // namespace penstock
