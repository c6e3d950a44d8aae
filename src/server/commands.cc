#include "server/commands.h"

#include <cstdio>

#include <CLI/CLI.hpp>

namespace penstock {

int RunCommand(int argc, char** argv) {
  CLI::App app{"Penstock: an LLM inference server"};
  app.require_subcommand(1);
  int exit_code = 0;
  app.add_subcommand("version", "Print the version")->callback([] {
    std::printf("penstock %s\n", PENSTOCK_VERSION);
  });
  AddTextCommands(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 1;
  }
  return exit_code;
}

}  // namespace penstock
