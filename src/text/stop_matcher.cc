#include "text/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace penstock {

StopMatcher::StopMatcher(std::vector<std::string> stops, bool include_stop)
    : stops_(std::move(stops)), include_stop_(include_stop) {
  std::erase(stops_, std::string());
}

const std::string* StopMatcher::LongestEndingAt(size_t end) const {
  const std::string* longest = nullptr;
  for (const std::string& stop : stops_) {
    if (stop.size() > end || held_.compare(end - stop.size(), stop.size(), stop) != 0) continue;
    if (longest == nullptr || stop.size() > longest->size()) longest = &stop;
  }
  return longest;
}

// Where the longest end of the text that may yet become a stop string begins.
size_t StopMatcher::HeldFrom() const {
  size_t from = held_.size();
  for (const std::string& stop : stops_) {
    size_t length = std::min(held_.size(), stop.size() - 1);
    while (held_.compare(held_.size() - length, length, stop, 0, length) != 0) --length;
    from = std::min(from, held_.size() - length);
  }
  return from;
}

StopMatcher::Step StopMatcher::Append(std::string_view text) {
  const size_t seen = held_.size();
  held_ += text;
  for (size_t end = seen + 1; end <= held_.size(); ++end) {
    if (const std::string* stop = LongestEndingAt(end)) {
      Step step{held_.substr(0, include_stop_ ? end : end - stop->size()), *stop};
      held_.clear();
      return step;
    }
  }
  const size_t from = HeldFrom();
  Step step{held_.substr(0, from), std::nullopt};
  held_.erase(0, from);
  return step;
}

std::string StopMatcher::Finish() { return std::exchange(held_, {}); }

}  // namespace penstock
