#include "text/grammar/limits.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "text/grammar/matcher.h"

namespace penstock::grammar {

absl::Status PastLimit(Limit limit) {
  switch (limit) {
    case Limit::kNone:
      break;
    case Limit::kWork:
      return absl::InvalidArgumentError(
          "the grammar is too ambiguous: to find what may follow the answer so far takes more work "
          "than a token may cost; alternatives that begin alike, and repetitions within "
          "repetitions, are what makes it so");
    case Limit::kWays:
      return absl::InvalidArgumentError(absl::StrCat(
          "the grammar is too ambiguous: there are more than ", StackMachine::kMostWays,
          " ways to go on from the answer so far; fewer alternatives that begin alike would help"));
    case Limit::kStacks:
      return absl::InvalidArgumentError(
          absl::StrCat("the answer so far leaves more than ", StackMachine::kMostNodes,
                       " rules and turns of loops of the grammar open; a bound on how deep rules "
                       "lie within each "
                       "other, or \"*\" and \"+\" in place of large counts, would help"));
    case Limit::kMemory:
      return absl::ResourceExhaustedError(absl::StrCat(
          "the grammar is too ambiguous beside those of other requests: together they keep as many "
          "ways to read their answers as fit ",
          WayMemory::kMost >> 20,
          " MiB; fewer alternatives that begin alike, and less that lies "
          "within each other, take less"));
  }
  return absl::OkStatus();
}

bool WayMemory::Resize(int64_t from, int64_t to) {
  const int64_t more = std::max<int64_t>(to - kOwn, 0) - std::max<int64_t>(from - kOwn, 0);
  int64_t now = used_.load(std::memory_order_relaxed);
  do {
    if (more > 0 && now + more > most_) return false;
  } while (!used_.compare_exchange_weak(now, now + more, std::memory_order_relaxed));
  return true;
}

}  // namespace penstock::grammar
