#include "engine/mask_task.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"

namespace penstock {
namespace {

/// Takes what a request forbids besides out of a mask. `drafts` come behind what is known.
void TakeForbidden(const Sequence& seq, absl::Span<const TokenId> drafts,
                   std::vector<uint32_t>& words) {
  const SamplingParams& sampling = seq.request.sampling;
  if (!sampling.allowed_token_ids.empty()) {
    std::vector<uint32_t> allowed(words.size());
    for (const TokenId id : sampling.allowed_token_ids) allowed[id / 32] |= 1u << (id % 32);
    for (size_t i = 0; i < words.size(); ++i) words[i] &= allowed[i];
  }
  if (sampling.bad_words.empty()) return;
  std::vector<TokenId> output(seq.tokens.begin() + seq.num_prompt(), seq.tokens.end());
  output.insert(output.end(), drafts.begin(), drafts.end());
  for (const std::vector<TokenId>& word : sampling.bad_words) {
    if (word.empty() || word.size() - 1 > output.size()) continue;
    if (static_cast<size_t>(word.back()) / 32 >= words.size()) continue;  // no token of the model
    const auto before = static_cast<ptrdiff_t>(word.size()) - 1;
    if (std::equal(word.begin(), word.end() - 1, output.end() - before))
      words[word.back() / 32] &= ~(1u << (word.back() % 32));
  }
}

bool AllowsNothing(const std::vector<uint32_t>& words) {
  return std::none_of(words.begin(), words.end(), [](uint32_t w) { return w != 0; });
}

}  // namespace

void MaskTask::Plan(Sequence& seq, size_t slice, int32_t first_output,
                    absl::Span<const TokenId> drafts, int32_t vocab_size) {
  seq_ = &seq;
  seq.masks = this;
  slice_ = slice;
  first_output_ = first_output;
  vocab_size_ = vocab_size;
  drafts_.assign(drafts.begin(), drafts.end());
  num_rows_ = 0;
  end_ = End::kNone;
  cut_short_ = false;
  too_ambiguous_ = absl::OkStatus();
  state_.store(kPlanned, std::memory_order_relaxed);
}

bool MaskTask::Claim(Maker maker) {
  int offered = kOffered;
  // The engine's thread has the matcher of what it has not offered.
  if (maker == Maker::kEngine && planned()) offered = kPlanned;
  if (!state_.compare_exchange_strong(offered, kClaimed, std::memory_order_acquire,
                                      std::memory_order_relaxed))
    return false;
  maker_ = maker;
  return true;
}

void MaskTask::Make() {
  TokenMatcher& matcher = *seq_->matcher;
  int32_t num_accepted = 0;
  for (size_t row = 0; row <= drafts_.size(); ++row) {
    if (rows_.size() == row) rows_.emplace_back();
    rows_[row].assign((static_cast<size_t>(vocab_size_) + 31) / 32, 0);
    const End end = MakeRow(absl::MakeConstSpan(drafts_).first(row), rows_[row]);
    if (end != End::kNone) {
      cut_short_ = row > 0;
      if (row == 0) end_ = end;
      break;
    }
    ++num_rows_;
    // Rows behind a draft that is not allowed are not drawn from.
    if (row == drafts_.size() || !matcher.Accept(drafts_[row])) break;
    ++num_accepted;
  }
  matcher.Rollback(num_accepted);
  state_.store(kMade);  // sequentially: before notify_one looks for who waits
  state_.notify_one();
}

MaskTask::End MaskTask::MakeRow(absl::Span<const TokenId> drafts, std::vector<uint32_t>& words) {
  TokenMatcher& matcher = *seq_->matcher;
  // Where one text alone may follow, it is written as the tokenizer writes it, unless the request
  // forbids that.
  if (const absl::Span<const TokenId> forced = matcher.Forced(); !forced.empty()) {
    words[forced[0] / 32] |= 1u << (forced[0] % 32);
    TakeForbidden(*seq_, drafts, words);
  }
  if (!AllowsNothing(words)) return End::kNone;
  matcher.FillMask(absl::MakeSpan(words));
  too_ambiguous_ = matcher.too_ambiguous();
  if (!too_ambiguous_.ok()) return End::kAmbiguous;
  if (matcher.finished()) {
    for (const TokenId id : seq_->request.stop_token_ids) {
      if (id >= 0 && id < vocab_size_) words[id / 32] |= 1u << (id % 32);
    }
  }
  const bool none = AllowsNothing(words);
  if (!none) TakeForbidden(*seq_, drafts, words);
  if (!AllowsNothing(words)) return End::kNone;
  if (matcher.finished()) return End::kFinished;
  return none ? End::kNoToken : End::kForbidden;
}

void MaskTask::Await() {
  if (state_.load(std::memory_order_acquire) == kClaimed)
    state_.wait(kClaimed, std::memory_order_acquire);
}

void MaskTask::Withdraw() {
  if (Claim(Maker::kEngine)) {
    state_.store(kMade, std::memory_order_relaxed);
  } else {
    Await();
  }
  Release();
}

Sequence& MaskTask::Release() {
  seq_->masks = nullptr;
  return *std::exchange(seq_, nullptr);
}

MaskTask& MaskTasks::Add() {
  const size_t index = size();
  CHECK(index < most_);
  size_.store(index + 1, std::memory_order_relaxed);
  return tasks_[index];
}

void MaskTasks::Clear() {
  for (size_t i = 0; i < size(); ++i) {
    if (!tasks_[i].withdrawn()) tasks_[i].Withdraw();
  }
  size_.store(0, std::memory_order_relaxed);
}

void MaskTasks::MakeAll() {
  for (bool any = true; any;) {
    any = false;
    // A task of an older step is idle or made; one of a newer step is as good as any.
    for (size_t i = 0; i < size(); ++i) {
      if (!tasks_[i].Claim(MaskTask::Maker::kHelper)) continue;
      tasks_[i].Make();
      any = true;
    }
  }
}

}  // namespace penstock
