// penstock admin alias, rollback: what names of models mean on a running server.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/admin_call.h"
#include "server/commands.h"

namespace penstock {
namespace {

using AliasJson = nlohmann::ordered_json;

struct AliasOptions {
  std::string socket, alias, to, reason;
  std::optional<std::string> if_match;
  bool json = false;
};

enum class AliasCommand { kList, kSet, kDelete, kHistory, kRollback };

absl::StatusOr<AliasJson> AskAboutAlias(AliasCommand command, const AliasOptions& options) {
  std::string path = "/admin/v1/aliases";
  if (command != AliasCommand::kList) path += "/" + PathSegment(options.alias);
  if (command == AliasCommand::kHistory) path += "/history";
  if (command == AliasCommand::kRollback) path += "/rollback";
  const bool reads = command == AliasCommand::kList || command == AliasCommand::kHistory;
  AliasJson body = AliasJson::object();
  if (command == AliasCommand::kSet) body["to"] = options.to;
  if (!options.reason.empty()) body["reason"] = options.reason;
  if (options.if_match) body["if_match"] = *options.if_match;
  const char* const method = reads ? "GET" : command == AliasCommand::kDelete ? "DELETE" : "POST";
  ASSIGN_OR_RETURN(const std::string answer,
                   CallAdmin(options.socket, method, path, reads ? "" : body.dump()));
  AliasJson json = AliasJson::parse(answer, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::UnavailableError("the server's answer is no JSON");
  return json;
}

/// A member as text; what is empty or not there is a dash.
std::string Cell(const AliasJson& row, const char* name) {
  const std::string text = row.value(name, "");
  return text.empty() ? "-" : text;
}

void PrintAliasRow(const AliasJson& row) {
  std::printf("%-24s %-24s %-6s %-24s %-20s %s\n", Cell(row, "alias").c_str(),
              Cell(row, "to").c_str(), Cell(row, "source").c_str(), Cell(row, "since").c_str(),
              Cell(row, "who").c_str(),
              row.value("active", false) ? "active" : row.value("why", "").c_str());
}

void PrintAliasChange(const AliasJson& row) {
  std::printf("%8lld  %-24s %-24s %-24s %-20s %s\n",
              static_cast<long long>(row.value("number", int64_t{0})), Cell(row, "when").c_str(),
              Cell(row, "from").c_str(), Cell(row, "to").c_str(), Cell(row, "who").c_str(),
              row.value("reason", "").c_str());
}

int RunAlias(AliasCommand command, const AliasOptions& options) {
  const absl::StatusOr<AliasJson> answer = AskAboutAlias(command, options);
  if (!answer.ok()) return AdminFailure(answer.status());
  if (options.json) {
    std::printf("%s\n", answer->dump().c_str());
  } else if (answer->contains("aliases")) {
    for (const AliasJson& row : (*answer)["aliases"]) PrintAliasRow(row);
  } else if (answer->contains("history")) {
    for (const AliasJson& row : (*answer)["history"]) PrintAliasChange(row);
  } else {
    std::printf("%s: %s, it was %s\n", options.alias.c_str(), Cell(*answer, "to").c_str(),
                Cell(*answer, "from").c_str());
  }
  return 0;
}

}  // namespace

void AddAliasCommands(CLI::App& admin, int& exit_code) {
  CLI::App* const aliases =
      admin.add_subcommand("alias", "What names of models mean: list, set, delete, history");
  aliases->require_subcommand(1);
  const auto add = [&](CLI::App& parent, AliasCommand verb, const char* name, const char* what) {
    auto options = std::make_shared<AliasOptions>();
    CLI::App* const command = parent.add_subcommand(name, what);
    if (verb != AliasCommand::kList)
      command->add_option("ALIAS", options->alias, "The name that requests say")->required();
    if (verb == AliasCommand::kSet)
      command->add_option("TO", options->to, "The model or adapter that it means")->required();
    command->add_option("--socket", options->socket, "server.admin.unix of the server")->required();
    if (verb != AliasCommand::kList && verb != AliasCommand::kHistory) {
      command->add_option("--reason", options->reason, "Kept in the history");
      command->add_option("--if-match", options->if_match,
                          "Only if the alias means this now; \"\": only if there is none");
    }
    command->add_flag("--json", options->json, "Print JSON");
    command->callback([options, verb, &exit_code] { exit_code = RunAlias(verb, *options); });
  };
  add(*aliases, AliasCommand::kList, "list", "All of them: what they mean, since when, by whom");
  add(*aliases, AliasCommand::kSet, "set", "Let a name mean a model, from the next request on");
  add(*aliases, AliasCommand::kDelete, "delete", "Let a name mean nothing any more");
  add(*aliases, AliasCommand::kHistory, "history", "Every change of one");
  add(admin, AliasCommand::kRollback, "rollback", "Let an alias mean again what it meant before");
}

}  // namespace penstock
