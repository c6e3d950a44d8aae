// Values as text: strict parsing and formatting of single fields.
#include <algorithm>
#include <numeric>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/strings.h"
#include "config/schema.h"

namespace penstock {
namespace {

absl::Status Expected(std::string_view what, std::string_view got) {
  return absl::InvalidArgumentError(
      absl::StrCat("expected ", ToAbsl(what), ", got '", ToAbsl(got), "'"));
}

struct Suffix {
  std::string_view text;
  int64_t scale;
};
constexpr Suffix kByteSuffixes[] = {{"TiB", int64_t{1} << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20},
                                    {"KiB", 1 << 10},          {"B", 1},         {"", 1}};

absl::Status Parse(const ConfigField&, std::string_view text, bool& out) {
  if (text != "true" && text != "false") return Expected("true or false", text);
  out = text == "true";
  return absl::OkStatus();
}

absl::Status Parse(const ConfigField& field, std::string_view text, int32_t& out) {
  int64_t value = 0;
  if (!absl::SimpleAtoi(ToAbsl(text), &value) || value < field.min || value > field.max) {
    return Expected(absl::StrCat("a whole number from ", field.min, " to ", field.max), text);
  }
  out = static_cast<int32_t>(value);
  return absl::OkStatus();
}

absl::Status Parse(const ConfigField&, std::string_view text, Count& out) {
  constexpr std::pair<std::string_view, int64_t> kSuffixes[] = {
      {"k", 1000}, {"M", 1000'000}, {"G", 1000'000'000}, {"", 1}};
  for (const auto& [suffix, scale] : kSuffixes) {
    if (!text.ends_with(suffix)) continue;
    int64_t value = 0;
    const std::string_view digits = text.substr(0, text.size() - suffix.size());
    if (!absl::SimpleAtoi(ToAbsl(digits), &value) || value < 0 || value > INT64_MAX / scale / 1000)
      break;
    out.value = value * scale;
    return absl::OkStatus();
  }
  return Expected("a number such as 600, 60k or 2M", text);
}

absl::Status Parse(const ConfigField&, std::string_view text, double& out) {
  double value = 0;
  if (!absl::SimpleAtod(ToAbsl(text), &value) || !(value >= 0.05 && value <= 1))
    return Expected("a number from 0.05 to 1", text);
  out = value;
  return absl::OkStatus();
}

absl::Status Parse(const ConfigField&, std::string_view text, Share& out) {
  const bool percent = text.ends_with('%');
  double value = 0;
  if (!absl::SimpleAtod(ToAbsl(text.substr(0, text.size() - percent)), &value) || !(value >= 0) ||
      value > (percent ? 100 : 1))
    return Expected("a part such as 1%, 0.5% or 0.01", text);
  out.value = percent ? value / 100 : value;
  return absl::OkStatus();
}

absl::Status Parse(const ConfigField& field, std::string_view text, std::string& out) {
  if (!field.choices.empty() &&
      std::find(field.choices.begin(), field.choices.end(), text) == field.choices.end()) {
    const std::string choices = absl::StrJoin(
        field.choices, " | ", [](std::string* s, std::string_view c) { s->append(c); });
    return Expected(choices, text);
  }
  out = std::string(text);
  return absl::OkStatus();
}

absl::Status Parse(const ConfigField&, std::string_view text, Bytes& out) {
  if (text == "auto") {
    out = kAutoBytes;
    return absl::OkStatus();
  }
  for (const Suffix& suffix : kByteSuffixes) {
    if (!text.ends_with(suffix.text)) continue;
    int64_t value = 0;
    const std::string_view digits = text.substr(0, text.size() - suffix.text.size());
    if (!absl::SimpleAtoi(ToAbsl(digits), &value) || value < 0 || value > INT64_MAX / suffix.scale)
      break;
    out.value = value * suffix.scale;
    return absl::OkStatus();
  }
  return Expected("a size such as 64MiB, 2GiB or auto", text);
}

absl::Status Parse(const ConfigField&, std::string_view text, absl::Duration& out) {
  absl::Duration value;
  if (!absl::ParseDuration(std::string(text), &value) || value < absl::ZeroDuration() ||
      value == absl::InfiniteDuration()) {
    return Expected("a duration such as 500ms, 30s or 2m", text);
  }
  out = value;
  return absl::OkStatus();
}

absl::Status Parse(const ConfigField&, std::string_view text, std::vector<std::string>& out) {
  out.clear();
  for (absl::string_view part : absl::StrSplit(ToAbsl(text), ',', absl::SkipWhitespace())) {
    out.emplace_back(absl::StripAsciiWhitespace(part));
  }
  return absl::OkStatus();
}

absl::Status Parse(const ConfigField&, std::string_view text,
                   std::map<std::string, std::string>& out) {
  out.clear();
  for (absl::string_view part : absl::StrSplit(ToAbsl(text), ',', absl::SkipWhitespace())) {
    const std::pair<absl::string_view, absl::string_view> sides =
        absl::StrSplit(absl::StripAsciiWhitespace(part), absl::MaxSplits('=', 1));
    if (sides.first.empty() || sides.second.empty())
      return Expected("name=value, perhaps more after commas", text);
    if (!out.emplace(sides.first, sides.second).second)
      return absl::InvalidArgumentError(absl::StrCat("'", sides.first, "' is given twice"));
  }
  return absl::OkStatus();
}

// Names and their lists: "user=infer, ops=operate model".
absl::Status Parse(const ConfigField&, std::string_view text,
                   std::map<std::string, std::vector<std::string>>& out) {
  out.clear();
  for (absl::string_view part : absl::StrSplit(ToAbsl(text), ',', absl::SkipWhitespace())) {
    const std::pair<absl::string_view, absl::string_view> sides =
        absl::StrSplit(absl::StripAsciiWhitespace(part), absl::MaxSplits('=', 1));
    if (sides.first.empty() || !absl::StrContains(part, '='))
      return Expected("name=value value, perhaps more after commas", text);
    const auto [it, fresh] = out.try_emplace(std::string(sides.first));
    if (!fresh)
      return absl::InvalidArgumentError(absl::StrCat("'", sides.first, "' is given twice"));
    for (absl::string_view item : absl::StrSplit(sides.second, ' ', absl::SkipWhitespace()))
      it->second.emplace_back(item);
  }
  return absl::OkStatus();
}

std::string Format(bool v) { return v ? "true" : "false"; }
std::string Format(int32_t v) { return absl::StrCat(v); }
std::string Format(Count v) {
  constexpr std::pair<int64_t, const char*> kScales[] = {
      {1000'000'000, "G"}, {1000'000, "M"}, {1000, "k"}};
  for (const auto& [scale, suffix] : kScales) {
    if (v.value != 0 && v.value % scale == 0) return absl::StrCat(v.value / scale, suffix);
  }
  return absl::StrCat(v.value);
}
std::string Format(double v) { return absl::StrCat(v); }
std::string Format(Share v) { return absl::StrCat(v.value * 100, "%"); }
std::string Format(const std::string& v) {
  const bool plain =
      !v.empty() &&
      v.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./@") ==
          v.npos;
  if (plain) return v;
  return absl::StrCat("\"", absl::StrJoin(absl::StrSplit(v, '"'), "\\\""), "\"");
}
std::string Format(Bytes v) {
  if (v.automatic()) return "auto";
  for (const Suffix& suffix : kByteSuffixes) {
    if (v.value != 0 && v.value % suffix.scale == 0 && suffix.text.size() == 3) {
      return absl::StrCat(v.value / suffix.scale, ToAbsl(suffix.text));
    }
  }
  return absl::StrCat(v.value);
}
std::string Format(absl::Duration v) {
  return v == absl::ZeroDuration() ? "0s" : absl::FormatDuration(v);
}
std::string Format(const std::map<std::string, std::string>& v) {
  return absl::StrCat("{",
                      absl::StrJoin(v, ", ",
                                    [](std::string* s, const auto& e) {
                                      absl::StrAppend(s, Format(e.first), ": ", Format(e.second));
                                    }),
                      "}");
}
std::string Format(const std::vector<std::string>& v) {
  return absl::StrCat(
      "[",
      absl::StrJoin(v, ", ", [](std::string* s, const std::string& e) { s->append(Format(e)); }),
      "]");
}

std::string Format(const std::map<std::string, std::vector<std::string>>& v) {
  return absl::StrCat("{",
                      absl::StrJoin(v, ", ",
                                    [](std::string* s, const auto& e) {
                                      absl::StrAppend(s, Format(e.first), ": ", Format(e.second));
                                    }),
                      "}");
}

}  // namespace

absl::Status SetField(const ConfigField& field, std::string_view text) {
  return std::visit([&](auto* target) { return Parse(field, text, *target); }, field.ref);
}

std::string FormatField(const ConfigField& field) {
  return std::visit([](auto* target) { return Format(*target); }, field.ref);
}

std::string_view NearestName(std::string_view word,
                             const std::vector<std::string_view>& candidates) {
  std::string_view best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string_view candidate : candidates) {
    std::vector<size_t> row(candidate.size() + 1);
    std::iota(row.begin(), row.end(), 0);
    for (size_t i = 0; i < word.size(); ++i) {
      size_t diagonal = std::exchange(row[0], i + 1);
      for (size_t j = 0; j < candidate.size(); ++j) {
        const size_t substituted = diagonal + (word[i] != candidate[j]);
        diagonal = row[j + 1];
        row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, substituted});
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

}  // namespace penstock
