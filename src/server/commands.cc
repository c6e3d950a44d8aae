#include "server/commands.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "backend/make_backend.h"
#include "server/build_info.h"
#include "server/command_tree.h"

namespace penstock {

int RunCommand(int argc, char** argv) {
  CLI::App app{"Penstock: an LLM inference server", "penstock"};
  FitScreen(app);
  app.require_subcommand(1);
  int exit_code = 0;
  AddServeCommand(app, exit_code);
  AddRunCommand(app, exit_code);
  AddTopCommand(app, exit_code);
  AddPlanCommand(app, exit_code);
  AddDoctorCommand(app, exit_code);
  AddCheckConfigCommand(app, exit_code);
  AddAdminCommand(app, exit_code);
  AddBenchCommand(app, exit_code);
  AddEvalCommand(app, exit_code);
  AddCheckModelCommand(app, exit_code);
  AddInspectCommand(app, exit_code);
  AddTextCommands(app, exit_code);
  app.add_subcommand("version", "Print the version and the CPU kernels' speed")->callback([] {
    std::printf("penstock %s\ncommit: %s\ngrpc: %s\ncuda: %s\n", PENSTOCK_VERSION, BuildCommit(),
                PENSTOCK_HAVE_GRPC ? "yes" : "no", std::string(BuiltCuda()).c_str());
    for (const CpuKernelSpeed& set : CpuKernelSpeeds()) {
      if (set.agrees) {
        const std::string bf16 =
            set.bf16_gops > 0 ? absl::StrFormat("bfloat16 %.0f, ", set.bf16_gops) : "";
        std::printf("%s: plain %.0f, %scodes %.0f, integers %.0f GOP/s of one thread\n",
                    set.name.c_str(), set.plain_gops, bf16.c_str(), set.codes_gops,
                    set.integers_gops);
      } else {
        std::printf("%s: failed its self-test\n", set.name.c_str());
      }
    }
  });
  AddHelpCommands(app, exit_code);
  AddExamples(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const std::string wrong =
        e.get_exit_code() == 0 ? ""
                               : ExplainWords(app, std::vector<std::string>(argv + 1, argv + argc));
    if (!wrong.empty()) {
      std::fprintf(stderr, "penstock: %s\nRun with --help for more information.\n", wrong.c_str());
      return 1;
    }
    return app.exit(e) == 0 ? 0 : 1;
  }
  return exit_code;
}

}  // namespace penstock
