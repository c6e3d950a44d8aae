#include "text/pattern.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/json_fields.h"

namespace penstock {
namespace {

// Joins neighbours: a span with `joins(span, previous)` is merged into the piece before it.
template <class It, class Joins>
std::vector<TextRange> Fold(It begin, It end, Joins joins) {
  std::vector<TextRange> pieces;
  bool previous = false;
  for (It it = begin; it != end; ++it) {
    if (!pieces.empty() && joins(it->is_match, previous)) {
      pieces.back() = {std::min(pieces.back().begin, it->range.begin),
                       std::max(pieces.back().end, it->range.end)};
    } else {
      pieces.push_back(it->range);
    }
    previous = it->is_match;
  }
  return pieces;
}

}  // namespace

absl::StatusOr<SplitBehavior> ParseSplitBehavior(std::string_view name) {
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return absl::InvalidArgumentError(
      absl::StrCat("\"behavior\": \"", ToAbsl(name), "\" is unknown"));
}

void SplitSpans(const std::vector<PatternSpan>& spans, SplitBehavior behavior,
                std::vector<TextRange>* pieces) {
  std::vector<TextRange> folded;
  switch (behavior) {
    case SplitBehavior::kRemoved:
    case SplitBehavior::kIsolated:
      for (const PatternSpan& span : spans) {
        const bool kept = behavior == SplitBehavior::kIsolated || !span.is_match;
        if (kept && span.range.begin < span.range.end) pieces->push_back(span.range);
      }
      return;
    case SplitBehavior::kContiguous:
      folded =
          Fold(spans.begin(), spans.end(), [](bool now, bool before) { return now == before; });
      break;
    case SplitBehavior::kMergedWithPrevious:
      folded =
          Fold(spans.begin(), spans.end(), [](bool now, bool before) { return now && !before; });
      break;
    case SplitBehavior::kMergedWithNext:
      folded =
          Fold(spans.rbegin(), spans.rend(), [](bool now, bool before) { return now && !before; });
      std::reverse(folded.begin(), folded.end());
      break;
  }
  for (const TextRange& range : folded) {
    if (range.begin < range.end) pieces->push_back(range);
  }
}

template <class Fn>
void Pattern::ForEachMatch(std::string_view text, Fn fn) const {
  if (regex_) {
    regex_->ForEach(text, fn);
    return;
  }
  if (literal_.empty()) return;
  for (size_t pos = text.find(literal_); pos != std::string_view::npos;
       pos = text.find(literal_, pos + literal_.size())) {
    fn(pos, pos + literal_.size());
  }
}

void Pattern::Find(std::string_view text, size_t offset, std::vector<PatternSpan>* spans) const {
  size_t end = 0;
  ForEachMatch(text, [&](size_t match_begin, size_t match_end) {
    if (end < match_begin) spans->push_back({{offset + end, offset + match_begin}, false});
    spans->push_back({{offset + match_begin, offset + match_end}, true});
    end = match_end;
  });
  if (end < text.size()) spans->push_back({{offset + end, offset + text.size()}, false});
}

std::string Pattern::ReplaceAll(std::string_view text, std::string_view content) const {
  std::string out;
  size_t kept = 0;
  ForEachMatch(text, [&](size_t begin, size_t end) {
    out.append(text.substr(kept, begin - kept));
    out.append(content);
    kept = end;
  });
  out.append(text.substr(kept));
  return out;
}

absl::StatusOr<Pattern> MakePattern(const nlohmann::json& config, std::string_view key) {
  const nlohmann::json* value = json_fields::Find(config, key);
  if (value != nullptr && value->is_string()) return Pattern(value->get<std::string>());
  if (value != nullptr && json_fields::Find(*value, "String") != nullptr) {
    ASSIGN_OR_RETURN(std::string literal, json_fields::String(*value, "String"));
    return Pattern(std::move(literal));
  }
  if (value != nullptr && json_fields::Find(*value, "Regex") != nullptr) {
    ASSIGN_OR_RETURN(const std::string expression, json_fields::String(*value, "Regex"));
    ASSIGN_OR_RETURN(Regex regex, Regex::Compile(expression));
    return Pattern(std::move(regex));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", ToAbsl(key), "\": expected {\"String\": ...} or {\"Regex\": ...}"));
}

}  // namespace penstock
