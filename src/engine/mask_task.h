// Masks of one slice's rows as a piece of work that whoever is free does: the engine's thread or
// another. One atomic claim decides who, so that nobody ever waits for work that was not begun.
// Owns the words of the masks; borrows a sequence. Must not know the scheduler or threads.
// Threads: Plan, Offer, Withdraw and results belong to the engine's thread; Claim, Make and MakeAll to
// any. From Offer until a task is made or withdrawn its sequence's matcher is the claimer's alone, and
// what a mask reads of the sequence does not change.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/sequence.h"

namespace penstock {

class MaskTask {
 public:
  enum class Maker : uint8_t { kEngine, kHelper };
  /// Why the first row has no mask, and the request ends. Behind a guess nothing ends but the drafts:
  /// the guess may be wrong.
  enum class End : uint8_t {
    kNone,
    kFinished,   // the output is complete
    kNoToken,    // no token of the model writes what must follow
    kForbidden,  // what the request forbids leaves none
    kAmbiguous,  // what may follow cannot be found: too_ambiguous() says why
  };

  /// Rows behind each of `drafts` and before the first. Not to be made before Offer.
  void Plan(Sequence& seq, size_t slice, int32_t first_output, absl::Span<const TokenId> drafts,
            int32_t vocab_size);
  /// The sequence's matcher is where these rows begin.
  void Offer() { state_.store(kOffered, std::memory_order_release); }
  bool planned() const { return state_.load(std::memory_order_relaxed) == kPlanned; }
  /// True for one caller alone, who then calls Make.
  bool Claim(Maker maker);
  void Make();
  /// Until whoever has claimed it is done.
  void Await();
  /// Nothing of the sequence is touched behind this.
  void Withdraw();
  bool withdrawn() const { return seq_ == nullptr; }

  // Once made.
  /// Its sequence, which has no more to do with it.
  Sequence& Release();
  size_t slice() const { return slice_; }
  int32_t first_output() const { return first_output_; }
  size_t num_rows() const { return num_rows_; }
  absl::Span<const uint32_t> row(size_t i) const { return rows_[i]; }
  End end() const { return end_; }
  const absl::Status& too_ambiguous() const { return too_ambiguous_; }
  /// There is none for the row behind the last one, from which nothing may be drawn.
  bool cut_short() const { return cut_short_; }
  Maker maker() const { return maker_; }

 private:
  enum State : int { kIdle, kPlanned, kOffered, kClaimed, kMade };

  /// The mask of the next row; what it ends the request for, or kNone.
  End MakeRow(absl::Span<const TokenId> drafts, std::vector<uint32_t>& words);

  std::atomic<int> state_{kIdle};
  Maker maker_ = Maker::kEngine;
  Sequence* seq_ = nullptr;
  size_t slice_ = 0;
  int32_t first_output_ = 0;
  int32_t vocab_size_ = 0;
  std::vector<TokenId> drafts_;
  size_t num_rows_ = 0;
  std::vector<std::vector<uint32_t>> rows_;
  End end_ = End::kNone;
  bool cut_short_ = false;
  absl::Status too_ambiguous_;
};

/// The tasks of one step, at most one for each slot.
class MaskTasks {
 public:
  explicit MaskTasks(int32_t num_slots)
      : most_(static_cast<size_t>(num_slots)), tasks_(std::make_unique<MaskTask[]>(most_)) {}

  MaskTask& Add();
  size_t size() const { return size_.load(std::memory_order_relaxed); }
  MaskTask& operator[](size_t i) { return tasks_[i]; }
  /// Withdraws what nobody has begun and waits for the rest.
  void Clear();
  /// For helpers: makes what is offered, oldest first, until there is nothing.
  void MakeAll();

 private:
  const size_t most_;
  const std::unique_ptr<MaskTask[]> tasks_;
  std::atomic<size_t> size_{0};
};

}  // namespace penstock
