#include "metrics/exposition.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/strings.h"

namespace penstock {
namespace {

constexpr size_t kMostDigits = 6;  // before the dot, without an exponent

std::string PythonBound(std::string_view bound) {
  if (bound.find_first_not_of("0123456789.") != bound.npos)
    return std::string(bound);  // +Inf, 1e-05
  const size_t dot = std::min(bound.find('.'), bound.size());
  if (dot <= kMostDigits) return absl::StrCat(ToAbsl(bound), dot == bound.size() ? ".0" : "");
  std::string digits(bound);
  std::erase(digits, '.');
  digits.insert(1, ".");
  digits.resize(digits.find_last_not_of("0.") + 1);
  return absl::StrCat(digits, "e+0", dot - 1);
}

}  // namespace

std::string WithPythonBounds(std::string_view text) {
  constexpr std::string_view kLabel = "le=\"";
  std::string out;
  out.reserve(text.size() + text.size() / 32);
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end);
    const size_t close = line.rfind("\"} ");
    const size_t label = close == line.npos ? line.npos : line.rfind(kLabel, close - 1);
    if (line[0] == '#' || label == line.npos || label == 0 ||
        (line[label - 1] != ',' && line[label - 1] != '{') || label + kLabel.size() > close) {
      out += line;
      continue;
    }
    const size_t begin = label + kLabel.size();
    out += line.substr(0, begin);
    out += PythonBound(line.substr(begin, close - begin));
    out += line.substr(close);
  }
  return out;
}

}  // namespace penstock
