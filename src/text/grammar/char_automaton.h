// Regular languages over code points: deterministic automata and the algebra of them.
// Owns states and transitions. Must not know UTF-8, JSON or tokens.
// Threads: values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace penstock::grammar {

inline constexpr uint32_t kMaxCodePoint = 0x10FFFF;

/// A set of code points as sorted ranges that do not touch.
class CharSet {
 public:
  struct Range {
    uint32_t low, high;
    friend bool operator==(const Range&, const Range&) = default;
  };

  CharSet() = default;
  CharSet(std::initializer_list<Range> ranges) {
    for (const Range& r : ranges) Add(r.low, r.high);
  }
  static CharSet All() { return {{0, kMaxCodePoint}}; }

  void Add(uint32_t low, uint32_t high);
  void Add(const CharSet& other);
  CharSet Complement() const;
  bool Contains(uint32_t c) const;
  const std::vector<Range>& ranges() const { return ranges_; }
  friend bool operator==(const CharSet&, const CharSet&) = default;

 private:
  std::vector<Range> ranges_;
};

/// The code points cut into classes that an automaton does not tell apart.
class CharClassTable {
 public:
  /// The coarsest classes of which every set is a union.
  static CharClassTable Of(const std::vector<CharSet>& sets);
  /// Classes that refine both, with the class of either that each lies in.
  static CharClassTable Refine(const CharClassTable& a, const CharClassTable& b,
                               std::vector<std::pair<int32_t, int32_t>>* origins);

  int32_t size() const { return size_; }
  int32_t of(uint32_t code_point) const;
  std::vector<int32_t> ClassesOf(const CharSet& set) const;
  /// Runs of code points of one class each, in order, without gaps.
  struct Run {
    uint32_t low, high;
    int32_t cls;
  };
  const std::vector<Run>& runs() const { return runs_; }
  /// Classes with equal `merged[cls]` become one of that number.
  CharClassTable Merge(const std::vector<int32_t>& merged, int32_t size) const;

 private:
  std::vector<Run> runs_{{0, kMaxCodePoint, 0}};
  int32_t size_ = 1;
};

class CharAutomaton {
 public:
  static constexpr int32_t kDead = -1;
  static constexpr int32_t kMaxStates = 20000;

  /// The automaton of nothing.
  CharAutomaton() : next_(1, kDead), accepts_(1, 0) {}
  CharAutomaton(CharClassTable classes, std::vector<int32_t> next, std::vector<uint8_t> accepts)
      : classes_(std::move(classes)), next_(std::move(next)), accepts_(std::move(accepts)) {}

  static CharAutomaton All();
  static CharAutomaton Words(const std::vector<std::u32string>& words);
  /// All strings of `min` to `max` code points; max < 0: any number above.
  static CharAutomaton Length(int64_t min, int64_t max);

  /// RESOURCE_EXHAUSTED beyond kMaxStates. Results are minimal.
  static absl::StatusOr<CharAutomaton> And(const CharAutomaton& a, const CharAutomaton& b);
  static absl::StatusOr<CharAutomaton> Or(const CharAutomaton& a, const CharAutomaton& b);
  CharAutomaton Not() const;
  CharAutomaton Minimized() const;

  int32_t num_states() const { return static_cast<int32_t>(accepts_.size()); }
  const CharClassTable& classes() const { return classes_; }
  /// The start is state 0. Of a class.
  int32_t Next(int32_t state, int32_t cls) const {
    return next_[static_cast<size_t>(state) * classes_.size() + cls];
  }
  bool accepts(int32_t state) const { return accepts_[state] != 0; }
  bool Matches(std::u32string_view text) const;
  bool empty() const;
  /// Whether it is All().
  bool IsAll() const;

 private:
  template <typename Accept>
  static absl::StatusOr<CharAutomaton> Product(const CharAutomaton& a, const CharAutomaton& b,
                                               Accept accept);

  CharClassTable classes_;
  std::vector<int32_t> next_;     // [states, classes]
  std::vector<uint8_t> accepts_;  // [states]
};

}  // namespace penstock::grammar
