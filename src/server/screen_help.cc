// --help on a screen of 80 columns.
#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/strings.h"
#include "server/command_tree.h"

namespace penstock {
namespace {

constexpr size_t kScreenColumns = 80;
constexpr size_t kTextColumn = 30;    // where what an option does begins
constexpr size_t kLongestRange = 20;  // a longer one tells nothing

/// `words` in lines that end before the last column; `used` columns stand before the first line, `indent`
/// spaces before others, and `end` before each break.
std::string ToScreen(const std::vector<std::string>& words, size_t used, size_t indent,
                     std::string_view end = "") {
  std::string out;
  size_t column = used;
  for (const std::string& word : words) {
    if (!out.empty() && column + 1 + word.size() + end.size() >= kScreenColumns) {
      absl::StrAppend(&out, ToAbsl(end), "\n", std::string(indent, ' '));
      column = indent;
    } else if (!out.empty()) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  return out;
}

std::string ScreenRow(std::string_view name, std::string_view text) {
  std::string out = absl::StrCat("  ", ToAbsl(name));
  if (text.empty()) return out + "\n";
  if (out.size() >= kTextColumn) {
    absl::StrAppend(&out, "\n", std::string(kTextColumn, ' '));
  } else {
    out.resize(kTextColumn, ' ');
  }
  return absl::StrCat(out, ToScreen(absl::StrSplit(ToAbsl(text), ' '), kTextColumn, kTextColumn),
                      "\n");
}

class ScreenHelp : public CLI::Formatter {
  // A type is "INT:INT in [1 - 8]" where it is checked: its range is told beside what the option does.
  std::string make_option(const CLI::Option* option, bool is_positional) const override {
    const std::string type = option->get_type_name(), values = make_option_opts(option);
    const std::string name = make_option_name(option, is_positional);
    std::string about = option->get_description();
    const size_t colon = type.find(':'), range = type.find("in [");
    if (colon == type.npos) return ScreenRow(name + values, about);
    if (range != type.npos && type.size() - range < kLongestRange)
      absl::StrAppend(&about, ", ", absl::StrReplaceAll(type.substr(range), {{" - ", "-"}}));
    return ScreenRow(absl::StrReplaceAll(name + values, {{type, type.substr(0, colon)}}), about);
  }
  std::string make_subcommand(const CLI::App* app) const override {
    return ScreenRow(app->get_display_name(true), app->get_description());
  }
  std::string make_description(const CLI::App* app) const override {
    return ToScreen(absl::StrSplit(app->get_description(), ' '), 0, 0) + "\n";
  }
  // An example may be copied: its lines are broken before options, which no quoted text has.
  std::string make_footer(const CLI::App* app) const override {
    std::string out;
    for (absl::string_view line : absl::StrSplit(app->get_footer(), '\n')) {
      std::vector<std::string> parts = absl::StrSplit(line, " --");
      for (size_t i = 1; i < parts.size(); ++i) parts[i].insert(0, "--");
      absl::StrAppend(&out, ToScreen(parts, 0, 6, " \\"), "\n");
    }
    return out;
  }
};

}  // namespace

void FitScreen(CLI::App& app) { app.formatter(std::make_shared<ScreenHelp>()); }

}  // namespace penstock
