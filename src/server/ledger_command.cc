// penstock admin usage, backup: what tenants have used, and a copy of the state file.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "ledger/state_backup.h"
#include "ledger/usage_store.h"
#include "server/admin_call.h"
#include "server/commands.h"
#include "server/config_sources.h"

namespace penstock {
namespace {

struct LedgerOptions {
  std::string config, socket, tenant;
  std::vector<std::string> assignments;
  bool json = false;
};

absl::StatusOr<std::string> StateDirOf(const LedgerOptions& options) {
  ASSIGN_OR_RETURN(const ServerConfig config, ReadConfig(options.config, options.assignments));
  if (!config.server.state_dir.empty()) return config.server.state_dir;
  return absl::InvalidArgumentError(
      "server.state_dir is not set: name the server's configuration with --config, or its admin "
      "socket with --socket");
}

absl::StatusOr<std::string> UsageReport(const LedgerOptions& options) {
  if (!options.socket.empty()) {
    return CallAdmin(options.socket, "GET",
                     absl::StrCat("/admin/v1/usage", options.tenant.empty() ? "" : "/",
                                  PathSegment(options.tenant)),
                     "");
  }
  ASSIGN_OR_RETURN(const std::string dir, StateDirOf(options));
  return UsageStore::Report(dir, options.tenant, nullptr);
}

int RunUsage(const LedgerOptions& options) {
  const absl::StatusOr<std::string> answer = UsageReport(options);
  if (!answer.ok()) return AdminFailure(answer.status());
  const auto json = nlohmann::ordered_json::parse(*answer, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("usage"))
    return AdminFailure(absl::UnavailableError("the server's answer is no JSON"));
  if (options.json) {
    std::printf("%s\n", answer->c_str());
    return 0;
  }
  std::printf("%-24s %12s %16s %16s %16s %16s\n", "tenant", "requests", "prompt", "cached",
              "completion", "of the budget");
  for (const auto& row : json["usage"]) {
    const auto number = [&](const char* name) { return row.value(name, int64_t{0}); };
    absl::PrintF("%-24s %12d %16d %16d %16d %16d\n", row.value("tenant", ""), number("requests"),
                 number("prompt_tokens"), number("cached_tokens"), number("completion_tokens"),
                 number("budget_used"));
  }
  return 0;
}

int RunBackup(const LedgerOptions& options, const std::string& to) {
  const absl::StatusOr<std::string> dir = StateDirOf(options);
  const absl::Status status = dir.ok() ? BackUpState(*dir, to) : dir.status();
  if (!status.ok()) return AdminFailure(status);
  std::printf("%s: whole\n", to.c_str());
  return 0;
}

CLI::App* AddLedgerVerb(CLI::App& parent, const char* name, const char* what,
                        const std::shared_ptr<LedgerOptions>& options) {
  CLI::App* command = parent.add_subcommand(name, what);
  command->add_option("--config", options->config, "The server's YAML file");
  command->add_option("--set", options->assignments, "key.path=value, as for serve")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  return command;
}

}  // namespace

void AddLedgerCommands(CLI::App& admin, int& exit_code) {
  auto options = std::make_shared<LedgerOptions>();
  CLI::App* usage = AddLedgerVerb(admin, "usage", "What tenants have used", options);
  usage->add_option("--socket", options->socket,
                    "server.admin.unix of a running server, instead of its state file");
  usage->add_option("--tenant", options->tenant, "Of this one alone");
  usage->add_flag("--json", options->json, "Print JSON");
  usage->callback([options, &exit_code] { exit_code = RunUsage(*options); });
  auto backup_options = std::make_shared<LedgerOptions>();
  auto to = std::make_shared<std::string>();
  CLI::App* backup = AddLedgerVerb(
      admin, "backup", "Copy the state file while servers run, and check the copy", backup_options);
  backup->add_option("--to", *to, "The copy, which must not be there")->required();
  backup->callback(
      [backup_options, to, &exit_code] { exit_code = RunBackup(*backup_options, *to); });
}

}  // namespace penstock
