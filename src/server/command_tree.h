// The commands of the binary as data, for help, completions and the man page: what each is called,
// takes and does, and an example of it.
// Owns copies. Must not know what commands do.
// Threads: confined to the main thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace penstock {

struct OptionInfo {
  std::vector<std::string> names;  // --long, -s; of a positional its one name
  std::string about;
  bool takes_value = false;
  bool is_positional = false;
  bool is_required = false;
};

struct CommandInfo {
  std::vector<std::string> path;  // empty: the binary itself
  std::string about, example;
  std::vector<OptionInfo> options;
  std::vector<std::string> subcommands;

  std::string Name(std::string_view separator) const;  // its path in one
};

/// All of them, parents first.
std::vector<CommandInfo> DescribeCommands(const CLI::App& app);

/// Gives each command its example, which --help shows below; one that has a footer keeps it.
void AddExamples(CLI::App& app);

/// Makes --help of `app`, and of the commands that it is given after this, fit 80 columns.
void FitScreen(CLI::App& app);

/// What is said of a command line that could not be read: of a word that is no command or option,
/// which one is near; "" where all words are known.
std::string ExplainWords(const CLI::App& app, const std::vector<std::string>& words);

std::string ManPage(const std::vector<CommandInfo>& commands, std::string_view version);

/// A script for bash, zsh or fish; "" for another shell.
std::string CompletionScript(const std::vector<CommandInfo>& commands, std::string_view shell);

}  // namespace penstock
