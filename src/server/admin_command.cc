// penstock admin: one call each to a running server or its state file.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "access/key_admin.h"
#include "base/status_macros.h"
#include "server/admin_call.h"
#include "server/commands.h"
#include "server/config_sources.h"
#include "server/state_file.h"

namespace penstock {
namespace {

using KeyJson = nlohmann::ordered_json;

struct AdminOptions {
  std::string config, socket;
  std::vector<std::string> assignments;
  bool json = false;
  std::string id, overlap = "24h", tenant, expires_in, note;
  std::vector<std::string> roles, models, cidrs;
};

enum class KeyVerb { kCreate, kRotate, kRevoke, kList };

std::string BodyOf(KeyVerb verb, const AdminOptions& options) {
  KeyJson body = KeyJson::object();
  if (verb == KeyVerb::kRotate)
    return KeyJson{{"id", options.id}, {"overlap", options.overlap}}.dump();
  body["tenant"] = options.tenant;
  if (!options.roles.empty()) body["roles"] = options.roles;
  if (!options.models.empty()) body["models"] = options.models;
  if (!options.cidrs.empty()) body["cidrs"] = options.cidrs;
  if (!options.expires_in.empty()) body["expires_in"] = options.expires_in;
  if (!options.note.empty()) body["note"] = options.note;
  return body.dump();
}

absl::StatusOr<std::string> AskServer(KeyVerb verb, const AdminOptions& options) {
  const std::string path = "/admin/v1/keys";
  switch (verb) {
    case KeyVerb::kCreate:
      return CallAdmin(options.socket, "POST", path, BodyOf(verb, options));
    case KeyVerb::kRotate:
      return CallAdmin(options.socket, "POST", path + "/rotate", BodyOf(verb, options));
    case KeyVerb::kRevoke:
      return CallAdmin(options.socket, "DELETE", path + "/" + options.id, "");
    case KeyVerb::kList:
      return CallAdmin(options.socket, "GET", path, "");
  }
  return absl::InternalError("");
}

absl::StatusOr<std::string> AskStateFile(KeyVerb verb, const AdminOptions& options) {
  ASSIGN_OR_RETURN(const ServerConfig config, ReadConfig(options.config, options.assignments));
  if (config.auth.key_file.pepper.empty() || config.server.state_dir.empty()) {
    return absl::InvalidArgumentError(
        "keys need auth.api_keys.pepper_file and server.state_dir: name the server's configuration "
        "with --config, or its admin socket with --socket");
  }
  ASSIGN_OR_RETURN(RoleTable roles, RoleTable::Make(config.roles));
  const KeyAdmin admin(StateFile(config.server), config.auth.key_file.pepper, std::move(roles));
  switch (verb) {
    case KeyVerb::kCreate:
      return admin.Create(BodyOf(verb, options));
    case KeyVerb::kRotate:
      return admin.Rotate(BodyOf(verb, options));
    case KeyVerb::kRevoke:
      return admin.Revoke(options.id);
    case KeyVerb::kList:
      return admin.List();
  }
  return absl::InternalError("");
}

std::string Joined(const KeyJson& list) {
  std::string out;
  for (const KeyJson& item : list)
    absl::StrAppend(&out, out.empty() ? "" : ",", item.get<std::string>());
  return out.empty() ? "-" : out;
}

void PrintKey(const KeyJson& key) {
  const auto time = [&](const char* field) {
    return key[field].is_null() ? std::string("-") : key[field].get<std::string>();
  };
  std::printf("%s  %-8s %-20s %-16s %-20s %-20s %s %s\n", key["id"].get<std::string>().c_str(),
              key["state"].get<std::string>().c_str(), key["tenant"].get<std::string>().c_str(),
              Joined(key["roles"]).c_str(), time("created").c_str(), time("expires").c_str(),
              Joined(key["cidrs"]).c_str(), key["note"].get<std::string>().c_str());
}

/// Prints what was answered about keys; the exit code.
int ShowKeys(absl::StatusOr<std::string> answer, bool as_json) {
  KeyJson json;
  if (answer.ok()) {
    json = KeyJson::parse(*answer, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) answer = absl::UnavailableError("the server's answer is no JSON");
  }
  if (!answer.ok()) return AdminFailure(answer.status());
  if (as_json) {
    std::printf("%s\n", json.dump().c_str());
  } else if (json.contains("key")) {
    std::fprintf(stderr, "key %s of tenant %s; it is shown this once:\n",
                 json["id"].get<std::string>().c_str(), json["tenant"].get<std::string>().c_str());
    std::printf("%s\n", json["key"].get<std::string>().c_str());
  } else if (json.contains("keys")) {
    for (const KeyJson& key : json["keys"]) PrintKey(key);
  } else {
    std::printf("%s is revoked\n", json["id"].get<std::string>().c_str());
  }
  return 0;
}

int RunKeys(KeyVerb verb, const AdminOptions& options) {
  return ShowKeys(options.socket.empty() ? AskStateFile(verb, options) : AskServer(verb, options),
                  options.json);
}

void AddBreakGlassCommand(CLI::App& admin, int& exit_code) {
  struct BreakGlassOptions {
    std::string socket, reason;
    bool json = false;
  };
  auto options = std::make_shared<BreakGlassOptions>();
  CLI::App* command = admin.add_subcommand(
      "breakglass", "Make a key that may do everything for an hour, for when nothing else lets in");
  command->add_option("--socket", options->socket, "server.admin.unix of the server")->required();
  command->add_option("--reason", options->reason, "Why; it is kept on record")->required();
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options, &exit_code] {
    exit_code = ShowKeys(CallAdmin(options->socket, "POST", "/admin/v1/keys/breakglass",
                                   KeyJson{{"reason", options->reason}}.dump()),
                         options->json);
  });
}

/// One call without a body; prints the answer as it is.
int RunCall(const std::string& socket, const char* method, const char* path) {
  const absl::StatusOr<std::string> answer = CallAdmin(socket, method, path, "");
  if (!answer.ok()) return AdminFailure(answer.status());
  std::printf("%s\n", answer->c_str());
  return 0;
}

}  // namespace

void AddAdminCommand(CLI::App& app, int& exit_code) {
  CLI::App* admin = app.add_subcommand("admin", "Operate a running server");
  admin->require_subcommand(1);
  for (const auto& [name, method, path, what] :
       {std::tuple("config", "GET", "/admin/v1/config", "Print the configuration in force"),
        {"reload", "POST", "/admin/v1/config/reload", "Take what changed in the configuration"},
        {"drain", "POST", "/admin/v1/drain", "Leave, as after SIGTERM"}}) {
    auto socket = std::make_shared<std::string>();
    CLI::App* command = admin->add_subcommand(name, what);
    command->add_option("--socket", *socket, "server.admin.unix of the server")->required();
    command->callback([socket, method = method, path = path, &exit_code] {
      exit_code = RunCall(*socket, method, path);
    });
  }
  AddBreakGlassCommand(*admin, exit_code);
  AddLedgerCommands(*admin, exit_code);
  AddAuditCommand(*admin, exit_code);
  AddAliasCommands(*admin, exit_code);
  CLI::App* keys = admin->add_subcommand("keys", "API keys: create, rotate, revoke, list");
  keys->require_subcommand(1);
  const auto add = [&](KeyVerb verb, const char* name, const char* what) {
    auto options = std::make_shared<AdminOptions>();
    CLI::App* command = keys->add_subcommand(name, what);
    command->add_option("--config", options->config, "The server's YAML file");
    command->add_option("--set", options->assignments, "key.path=value, as for serve")
        ->take_all()
        ->expected(1)
        ->allow_extra_args(false);
    command->add_option("--socket", options->socket,
                        "server.admin.unix of a running server, instead of its state file");
    command->add_flag("--json", options->json, "Print JSON");
    command->callback([options, verb, &exit_code] { exit_code = RunKeys(verb, *options); });
    return std::pair(command, options);
  };
  const auto [create, c] = add(KeyVerb::kCreate, "create", "Make a key and show it, once");
  create->add_option("--tenant", c->tenant, "Whose key it is")->required();
  create->add_option("--role", c->roles, "A role that it has; several may be given. user");
  create->add_option("--model", c->models,
                     "A model that it may use; several may be given. All of the tenant");
  create->add_option("--cidr", c->cidrs, "Addresses that may use it; several may be given. All");
  create->add_option("--expires-in", c->expires_in, "As in 90d or 12h. Never");
  create->add_option("--note", c->note, "Shown in lists");
  const auto [rotate, t] = add(KeyVerb::kRotate, "rotate", "Make a key in the place of another");
  rotate->add_option("ID", t->id, "The key to replace")->required();
  rotate->add_option("--overlap", t->overlap, "How long both are valid. 24h");
  const auto [revoke, r] = add(KeyVerb::kRevoke, "revoke", "Let a key be used no more");
  revoke->add_option("ID", r->id, "Which one")->required();
  add(KeyVerb::kList, "list", "All keys, without their secrets");
}

}  // namespace penstock
