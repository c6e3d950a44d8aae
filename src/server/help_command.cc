// penstock help, penstock completion: what is made from the commands themselves.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "absl/strings/str_cat.h"
#include "server/command_tree.h"
#include "server/commands.h"

namespace penstock {

void AddHelpCommands(CLI::App& app, int& exit_code) {
  struct Options {
    std::vector<std::string> words;
    bool man = false;
    std::string shell;
  };
  auto options = std::make_shared<Options>();
  CLI::App* help = app.add_subcommand("help", "As --help of a command; or of all of them");
  help->add_option("COMMAND", options->words, "As in: help admin keys");
  help->add_flag("--man", options->man, "Print the man page of all commands");
  help->callback([options, &app, &exit_code] {
    if (options->man) {
      std::fputs(ManPage(DescribeCommands(app), PENSTOCK_VERSION).c_str(), stdout);
      return;
    }
    const std::string wrong = ExplainWords(app, options->words);
    if (!wrong.empty()) {
      std::fprintf(stderr, "penstock: %s\n", wrong.c_str());
      exit_code = 1;
      return;
    }
    std::string name = app.get_name();
    CLI::App* at = &app;
    for (const std::string& word : options->words) {
      at = at->get_subcommand(word);
      absl::StrAppend(&name, " ", word);
    }
    // App::help would tell of this command, which is the one that was called.
    std::fputs(at->get_formatter()->make_help(at, name, CLI::AppFormatMode::Normal).c_str(),
               stdout);
  });
  CLI::App* completion =
      app.add_subcommand("completion", "Print a script that completes commands in a shell");
  completion->add_option("SHELL", options->shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->callback([options, &app] {
    std::fputs(CompletionScript(DescribeCommands(app), options->shell).c_str(), stdout);
  });
}

}  // namespace penstock
