#include "config/config_diff.h"

#include <optional>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/content_hash.h"
#include "base/strings.h"
#include "config/schema.h"

namespace penstock {
namespace {

constexpr std::string_view kLivePaths[] = {"auth.api_key_file",
                                           "auth.mtls.",
                                           "chain",
                                           "drain.",
                                           "guards.",
                                           "models.*.aliases",
                                           "models.*.fallback",
                                           "limits.",
                                           "observe.level",
                                           "observe.trace_sample",
                                           "observe.trace_slow",
                                           "privacy.audit.on_failure",
                                           "privacy.audit.ttl",
                                           "roles",
                                           "server.allowed_hosts",
                                           "server.cors_origins",
                                           "server.open_routes",
                                           "tenants."};
// Of these, what only a restart changes.
constexpr std::string_view kFixedPaths[] = {"limits.shared.password_file", "limits.shared.redis"};

void AddValues(const ConfigSection& section, const std::string& prefix,
               std::map<std::string, std::string>& out) {
  for (const ConfigField& field : section.fields)
    out[absl::StrCat(prefix, ToAbsl(field.name))] = FormatField(field);
  for (const ConfigSection& sub : section.sections)
    AddValues(sub, absl::StrCat(prefix, ToAbsl(sub.name), "."), out);
  for (const ConfigEntries& entries : section.entries) {
    for (const auto& [name, entry] : entries.all())
      AddValues(entry, absl::StrCat(prefix, ToAbsl(entries.name), ".", name, "."), out);
  }
}

/// "models.NAME (new)" or "(gone)" where `of` is of a model that one of two configurations lacks:
/// its keys would be a page.
std::optional<std::string> WholeModel(const ConfigChange& of,
                                      absl::Span<const ConfigChange> changes) {
  if (!of.before.empty() && !of.after.empty()) return std::nullopt;
  for (const ConfigChange& change : changes) {
    absl::string_view model = change.path;  // each has a path, which is never empty
    if (!absl::StartsWith(model, "models.") || !absl::ConsumeSuffix(&model, ".path")) continue;
    if (!change.before.empty() && !change.after.empty()) continue;
    if (!of.path.starts_with(absl::StrCat(model, "."))) continue;
    return absl::StrCat(model, change.before.empty() ? " (new)" : " (gone)");
  }
  return std::nullopt;
}

/// A file that is named as before and holds something else.
void AddSecret(const char* path, bool same_file, bool same_secret, std::vector<ConfigChange>& out) {
  if (same_file && !same_secret)
    out.push_back({path, "a secret", "another secret", IsLivePath(path)});
}

}  // namespace

absl::Span<const std::string_view> LivePaths() { return kLivePaths; }

bool IsLivePath(std::string_view path) {
  for (const std::string_view fixed : kFixedPaths) {
    if (path == fixed) return false;
  }
  for (const std::string_view live : kLivePaths) {
    if (const size_t star = live.find('*'); star != live.npos) {
      if (path.starts_with(live.substr(0, star)) && path.ends_with(live.substr(star + 1)))
        return true;
    } else if (live.ends_with('.') ? path.starts_with(live) : path == live) {
      return true;
    }
  }
  return false;
}

std::map<std::string, std::string> ConfigValues(const ServerConfig& config) {
  ServerConfig copy = config;  // a description points into what it may change
  std::map<std::string, std::string> out;
  AddValues(DescribeServer(copy), "", out);
  for (auto& [name, model] : copy.models)
    AddValues(DescribeModel(model), absl::StrCat("models.", name, "."), out);
  return out;
}

std::vector<ConfigChange> DifferentValues(const std::map<std::string, std::string>& before,
                                          const std::map<std::string, std::string>& after) {
  std::set<std::string> paths;
  for (const auto& [path, value] : before) paths.insert(path);
  for (const auto& [path, value] : after) paths.insert(path);
  std::vector<ConfigChange> out;
  for (const std::string& path : paths) {
    const auto was = before.find(path), is = after.find(path);
    ConfigChange change;
    change.path = path;
    if (was != before.end()) change.before = was->second;
    if (is != after.end()) change.after = is->second;
    change.live = IsLivePath(path);
    if (change.before != change.after) out.push_back(std::move(change));
  }
  return out;
}

std::vector<ConfigChange> ConfigChanges(const ServerConfig& before, const ServerConfig& after) {
  std::vector<ConfigChange> out = DifferentValues(ConfigValues(before), ConfigValues(after));
  if (before.auth.api_keys != after.auth.api_keys) {
    out.push_back({"auth.api_keys", absl::StrCat(before.auth.api_keys.size(), " keys"),
                   absl::StrCat(after.auth.api_keys.size(), " keys"), true});
  }
  const AuthSection &was = before.auth, &is = after.auth;
  const SharedLimitsSection &shared = before.limits.shared, &shares = after.limits.shared;
  AddSecret("auth.api_keys.pepper_file", was.key_file.pepper_file == is.key_file.pepper_file,
            was.key_file.pepper == is.key_file.pepper, out);
  AddSecret("limits.shared.password_file", shared.password_file == shares.password_file,
            shared.password == shares.password, out);
  return out;
}

absl::Status CheckLive(absl::Span<const ConfigChange> changes) {
  std::vector<std::string> fixed;
  for (const ConfigChange& change : changes) {
    if (change.live) continue;
    const std::string name = WholeModel(change, changes).value_or(change.path);
    if (fixed.empty() || fixed.back() != name) fixed.push_back(name);
  }
  if (fixed.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("restart_required: ", absl::StrJoin(fixed, ", ")));
}

std::string ConfigHash(const ServerConfig& config) {
  std::string text;
  for (const auto& [path, value] : ConfigValues(config))
    absl::StrAppend(&text, path, "=", value, "\n");
  return absl::StrFormat(
      "%016x", ContentHash(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()),
                                               text.size())));
}

}  // namespace penstock
