// The command line: `penstock serve | run | top | plan | doctor | admin | check-config | check-model | eval | inspect |
// tokenize | render-chat | bench | help | completion | version`.
// Owns nothing. Must not know how a command does its work.
// Threads: confined to the main thread.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace penstock {

/// Parses the command line and runs the command; returns the exit code (0 done, 1 usage, config or
/// I/O, 2 gate failed).
int RunCommand(int argc, char** argv);

// Each adds its sub-command to `app` and stores its exit code in `exit_code` when it is the chosen
// one.
void AddServeCommand(CLI::App& app, int& exit_code);
void AddRunCommand(CLI::App& app, int& exit_code);
void AddTopCommand(CLI::App& app, int& exit_code);
void AddHelpCommands(CLI::App& app, int& exit_code);  // help, completion; last of all
void AddAdminCommand(CLI::App& app, int& exit_code);
// Verbs of `admin` about what is kept: usage, backup, audit, alias, rollback.
void AddLedgerCommands(CLI::App& admin, int& exit_code);
void AddAuditCommand(CLI::App& admin, int& exit_code);
void AddAliasCommands(CLI::App& admin, int& exit_code);
void AddPlanCommand(CLI::App& app, int& exit_code);
void AddDoctorCommand(CLI::App& app, int& exit_code);
void AddCheckConfigCommand(CLI::App& app, int& exit_code);
void AddCheckModelCommand(CLI::App& app, int& exit_code);
void AddInspectCommand(CLI::App& app, int& exit_code);
void AddTextCommands(CLI::App& app, int& exit_code);  // tokenize, render-chat
void AddBenchCommand(CLI::App& app, int& exit_code);
void AddEvalCommand(CLI::App& app, int& exit_code);

}  // namespace penstock
