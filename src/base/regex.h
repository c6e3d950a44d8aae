// Regular expressions of outside files, by Oniguruma, within a limit of steps.
// Owns the compiled pattern. Must not know what is matched.
// Threads: immutable; matching state is per thread.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"

namespace penstock {

class Regex {
 public:
  /// INVALID_ARGUMENT with the reason where `pattern` cannot be compiled.
  static absl::StatusOr<Regex> Compile(std::string_view pattern);

  struct Match {
    size_t begin = 0;
    size_t end = 0;
  };
  /// The leftmost match at or after `from`. False for none, and where matching exceeds the
  /// limit of steps, which grows with the text.
  /// `text` must be valid UTF-8 and `from` a boundary.
  bool Find(std::string_view text, size_t from, Match* match) const;

  /// Calls `fn(begin, end)` for every match, left to right. An empty match right after a match does
  /// not count.
  template <class Fn>
  void ForEach(std::string_view text, Fn fn) const {
    Match match;
    size_t from = 0;
    size_t last_end = std::string_view::npos;
    while (from <= text.size() && Find(text, from, &match)) {
      const bool empty = match.begin == match.end;
      if (!empty || match.end != last_end) fn(match.begin, match.end);
      last_end = match.end;
      from = empty ? NextBoundary(text, match.end) : match.end;
    }
  }

 private:
  struct Code;
  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  static size_t NextBoundary(std::string_view text, size_t pos);

  std::shared_ptr<const Code> code_;
};

}  // namespace penstock
