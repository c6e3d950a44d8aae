// Finds stop strings in streamed text and holds back what may still become one.
// Owns the held text. Must not know tokens or the wire.
// Threads: confined to its stream.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace penstock {

class StopMatcher {
 public:
  /// Empty stop strings are left out. With `include_stop` the text ends with the stop string, else
  /// before it.
  StopMatcher(std::vector<std::string> stops, bool include_stop);

  struct Step {
    std::string emit;                    // may leave now
    std::optional<std::string> matched;  // the stop string that ended the stream; nothing follows
  };
  /// The first stop string to be complete wins, whatever the pieces in which the text comes; of
  /// several that end at the same byte, the longest. Text after a match is dropped.
  Step Append(std::string_view text);
  /// The end of the stream without a match: what was held back.
  std::string Finish();

 private:
  const std::string* LongestEndingAt(size_t end) const;
  size_t HeldFrom() const;

  std::vector<std::string> stops_;
  bool include_stop_;
  std::string held_;
};

}  // namespace penstock
