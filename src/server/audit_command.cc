// penstock admin audit: whether the audit log is whole, and what is in it.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "ledger/audit_chain.h"
#include "server/commands.h"
#include "server/config_sources.h"
#include "server/state_file.h"

namespace penstock {
namespace {

using AuditJson = nlohmann::ordered_json;

struct AuditOptions {
  std::string config, dir, key, since, until, what, tenant, key_id, request, format = "jsonl", out;
  std::vector<std::string> assignments;
  bool json = false;
};

struct AuditPlace {
  std::string dir;
  std::shared_ptr<const AuditKey> key;  // null: signatures are not looked at
};

absl::StatusOr<AuditPlace> PlaceOf(const AuditOptions& options) {
  AuditPlace place{options.dir, nullptr};
  std::string key = options.key;
  if (place.dir.empty()) {
    ASSIGN_OR_RETURN(const ServerConfig config, ReadConfig(options.config, options.assignments));
    if (config.server.state_dir.empty()) {
      return absl::InvalidArgumentError(
          "server.state_dir is not set: name the server's configuration with --config, or the "
          "log's folder with --dir");
    }
    place.dir = AuditDir(config.server);
    if (key.empty()) key = config.audit.sign_key_file;
  }
  if (!key.empty()) {
    ASSIGN_OR_RETURN(place.key, AuditKey::Read(key));
  }
  return place;
}

int AuditFailure(const absl::Status& status) {
  std::fprintf(stderr, "penstock: %s\n", std::string(status.message()).c_str());
  return 1;
}

int RunVerify(const AuditOptions& options) {
  const absl::StatusOr<AuditPlace> place = PlaceOf(options);
  if (!place.ok()) return AuditFailure(place.status());
  const AuditReport report = VerifyAudit(place->dir, place->key.get());
  if (options.json) {
    std::printf("%s\n", report.Json().c_str());
    return report.ok() ? 0 : 2;
  }
  for (const AuditProblem& problem : report.problems) {
    std::printf("%s:%lld: %s\n", problem.file.c_str(), static_cast<long long>(problem.line),
                problem.what.c_str());
  }
  std::printf("lines %lld to %lld, %lld checkpoints, signed through line %lld%s, digest %s: %s\n",
              static_cast<long long>(report.first), static_cast<long long>(report.last),
              static_cast<long long>(report.checkpoints),
              static_cast<long long>(report.signed_through),
              place->key == nullptr ? " (no key: signatures were not looked at)" : "",
              report.digest.c_str(), report.ok() ? "whole" : "NOT whole");
  return report.ok() ? 0 : 2;
}

bool Wanted(const AuditOptions& options, const AuditJson& line) {
  const auto fits = [&](const char* field, const std::string& wanted) {
    return wanted.empty() || (line.contains(field) && line[field] == wanted);
  };
  const std::string time = line.value("time", "");
  return fits("what", options.what) && fits("tenant", options.tenant) &&
         fits("key", options.key_id) && fits("request", options.request) &&
         (options.since.empty() || time >= options.since) &&
         (options.until.empty() || time < options.until);
}

constexpr const char* kColumns[] = {
    "n",        "time", "what",    "tenant",        "key",           "request",           "model",
    "protocol", "code", "outcome", "prompt_tokens", "cached_tokens", "completion_tokens", "reason",
    "address",  "path"};

std::string CsvLine(const AuditJson& line) {
  std::string out;
  for (const char* column : kColumns) {
    if (column != kColumns[0]) out += ',';
    const auto it = line.find(column);
    if (it == line.end()) continue;
    if (!it->is_string()) {
      out += it->dump();
      continue;
    }
    out += '"';
    for (const char c : it->get<std::string>())
      out += c == '"' ? std::string("\"\"") : std::string(1, c);
    out += '"';
  }
  return out;
}

/// Lines that are wanted, as they are or as CSV; what is no JSON is passed over.
int RunLines(const AuditOptions& options) {
  const absl::StatusOr<AuditPlace> place = PlaceOf(options);
  if (!place.ok()) return AuditFailure(place.status());
  std::FILE* out = options.out.empty() ? stdout : std::fopen(options.out.c_str(), "wex");
  if (out == nullptr)
    return AuditFailure(absl::InvalidArgumentError(
        absl::StrCat(options.out, ": cannot be made, or is there already")));
  const bool csv = options.format == "csv";
  std::string header;
  for (const char* column : kColumns) absl::StrAppend(&header, header.empty() ? "" : ",", column);
  if (csv) std::fprintf(out, "%s\n", header.c_str());
  for (const std::string& path : AuditFiles(place->dir)) {
    std::ifstream in(path);
    for (std::string text; std::getline(in, text);) {
      const AuditJson line = AuditJson::parse(text, nullptr, /*allow_exceptions=*/false);
      if (!line.is_object() || !Wanted(options, line)) continue;
      std::fprintf(out, "%s\n", csv ? CsvLine(line).c_str() : text.c_str());
    }
  }
  const bool failed = std::fflush(out) != 0 || std::ferror(out) != 0;
  if (out != stdout) std::fclose(out);
  return failed ? AuditFailure(absl::UnavailableError("the lines cannot be written")) : 0;
}

}  // namespace

void AddAuditCommand(CLI::App& admin, int& exit_code) {
  CLI::App* audit = admin.add_subcommand("audit", "The audit log: verify, search, export");
  audit->require_subcommand(1);
  const auto add = [&](const char* name, const char* what, int (*run)(const AuditOptions&)) {
    auto options = std::make_shared<AuditOptions>();
    CLI::App* command = audit->add_subcommand(name, what);
    command->add_option("--config", options->config, "The server's YAML file");
    command->add_option("--set", options->assignments, "key.path=value, as for serve")
        ->take_all()
        ->expected(1)
        ->allow_extra_args(false);
    command->add_option("--dir", options->dir, "The log's folder, instead of a configuration");
    command->callback([options, run, &exit_code] { exit_code = run(*options); });
    return std::pair(command, options);
  };
  const auto [verify, v] = add(
      "verify", "Find lines that were altered, moved or taken away; 2: there are some", RunVerify);
  verify->add_option("--key", v->key, "The Ed25519 key of checkpoints, or its public half (PEM)");
  verify->add_flag("--json", v->json, "Print JSON");
  const auto [search, s] = add("search", "Print the lines that fit", RunLines);
  const auto [write, w] = add("export", "Write lines into a file", RunLines);
  for (const auto& [command, options] : {std::pair(search, s), {write, w}}) {
    command->add_option("--since", options->since, "From this time on: 2026-01-31T00:00:00Z");
    command->add_option("--until", options->until, "Before this time");
    command->add_option("--what", options->what, "request, denied, key, reload, checkpoint, ...");
    command->add_option("--tenant", options->tenant, "Of this tenant");
    command->add_option("--key-id", options->key_id, "By this key");
    command->add_option("--request", options->request, "Of this request");
    command->add_option("--format", options->format, "jsonl or csv")
        ->check(CLI::IsMember({"jsonl", "csv"}));
  }
  write->add_option("--out", w->out, "The file, which must not be there")->required();
}

}  // namespace penstock
