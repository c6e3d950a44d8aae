#include "model/name_pattern.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {
namespace {

constexpr size_t kMaxPatternBytes = 1024;

}  // namespace

absl::StatusOr<NamePattern> NamePattern::Parse(std::string_view text) {
  if (text.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a pattern of ", text.size(), " bytes, expected at most ", kMaxPatternBytes));
  }
  NamePattern pattern;
  pattern.text_ = text;
  if (!text.starts_with("re:")) {
    pattern.parts_ = absl::StrSplit(ToAbsl(text), '.');
    return pattern;
  }
  ASSIGN_OR_RETURN(Regex expression,
                   Regex::Compile(absl::StrCat("\\A(?:", ToAbsl(text.substr(3)), ")")));
  pattern.expression_ = std::move(expression);
  return pattern;
}

bool NamePattern::Matches(std::string_view name) const {
  if (!expression_) {
    const std::vector<std::string> given = absl::StrSplit(ToAbsl(name), '.');
    for (size_t begin = 0; begin + parts_.size() <= given.size(); ++begin) {
      size_t i = 0;
      while (i < parts_.size() && (parts_[i] == "*" || parts_[i] == given[begin + i])) ++i;
      if (i == parts_.size()) return true;
    }
    return false;
  }
  Regex::Match match;
  return expression_->Find(name, 0, &match);
}

}  // namespace penstock
