// The parse of a regular expression: a tree of what has to be matched.
// Owns its nodes. Must not know automata.
// Threads: values.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "text/grammar/char_automaton.h"

namespace penstock::grammar {

struct PatternNode {
  enum class Kind : uint8_t { kSet, kSequence, kChoice, kRepeat, kBegin, kEnd, kAhead, kNotAhead };
  Kind kind = Kind::kSequence;
  CharSet set;                    // kSet
  std::vector<int32_t> children;  // indices into PatternTree::nodes
  int64_t min = 0, max = -1;      // kRepeat; max < 0: any number
};

struct PatternFlags {
  bool ignore_case = false;  // of ASCII letters
  bool dot_all = false;      // a dot is an end of a line too
};

struct PatternTree {
  std::vector<PatternNode> nodes;
  int32_t root = 0;
};

absl::StatusOr<PatternTree> ParsePattern(std::string_view pattern, PatternFlags flags);

}  // namespace penstock::grammar
