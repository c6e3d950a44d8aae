#include "config/guard_fields.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {
namespace {

absl::Status GuardError(std::string_view name, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("guards.", ToAbsl(name), ToAbsl(what)));
}

absl::Status ValidateGuard(const std::string& name, const GuardEntry& guard) {
  if (guard.use.empty()) return GuardError(name, ".use: expected the kind of link");
  if (name == kTenantGuards || name == "cache:exact")
    return GuardError(name, ": the name has a meaning of its own");
  if (guard.timeout <= absl::ZeroDuration() || guard.timeout > absl::Minutes(1))
    return GuardError(name, ".timeout: expected more than 0s and at most 1m");
  if (guard.use == "ban" && guard.words.empty() && guard.patterns.empty())
    return GuardError(name, ": expected words or patterns to ban");
  if (guard.use == "lang" && guard.scripts.empty())
    return GuardError(name, ".scripts: expected the scripts that are allowed, such as [Latn]");
  if (guard.use == "lua" && guard.file.empty()) return GuardError(name, ".file: expected a script");
  if (guard.use == "template" && guard.system.empty())
    return GuardError(name, ".system: expected a prompt");
  if (guard.use == "trim" && guard.max_tokens == 0)
    return GuardError(name, ".max_tokens: expected the tokens that a prompt may have");
  if (guard.use == "http") {
    if (!guard.url.starts_with("http://") && !guard.url.starts_with("https://"))
      return GuardError(name, ".url: expected http:// or https://");
    if (guard.cert_file.empty() != guard.key_file.empty())
      return GuardError(name, ": expected both cert_file and key_file, or neither");
    if (!(guard.cert_file + guard.ca_file).empty() && !guard.url.starts_with("https://"))
      return GuardError(name, ".url: expected https:// beside certificates");
    for (const std::string& phase : guard.phases) {
      if (phase != "request" && phase != "response")
        return GuardError(name, ".phases: expected request, response or both");
    }
  }
  return absl::OkStatus();
}

}  // namespace

ConfigSection DescribeGuard(GuardEntry& c) {
  return {
      "",
      "",
      {
          {"use",
           &c.use,
           "The kind of link; see docs/chain.md.",
           {"schema", "limit", "cache", "template", "trim", "ban", "lang", "lua", "http"}},
          {"timeout", &c.timeout,
           "Time for one phase of one call; of what runs in this process: CPU time. At most 1m."},
          {"on_error",
           &c.on_error,
           "What follows where the link fails or takes too long. block: the call is a 503. skip: "
           "it goes on without the link.",
           {"block", "skip"}},
          {"action",
           &c.action,
           "ban, lang: what follows from something that is not allowed. deny: the call is a 403, a "
           "stream ends with an error. mask: it is replaced (ban) or left out (lang).",
           {"deny", "mask"}},
          {"where",
           &c.where,
           "ban, lang: which texts are looked at.",
           {"both", "prompt", "output"}},
          {"words", &c.words, "ban: whole words and phrases, without regard to case."},
          {"patterns", &c.patterns, "ban: regular expressions of RE2."},
          {"fields", &c.fields, "schema: the fields that a request may have. Empty: all."},
          {"scripts", &c.scripts,
           "lang: scripts by ISO 15924, such as [Latn, Cyrl]; digits, marks and signs belong to "
           "none and are always allowed."},
          {"phases", &c.phases,
           "http: request, response or both. Empty: request. With response a stream is handed out "
           "when it is complete."},
          {"mask", &c.mask, "ban: what stands in the place of a match."},
          {"hold",
           &c.hold,
           "ban: bytes of the longest match that is found for certain in an output; streams are "
           "held back by twice as many at most. Longer words raise it.",
           {},
           1,
           4096},
          {"system", &c.system, "template: a system prompt."},
          {"mode",
           &c.mode,
           "template: replace: in the place of the client's. add: before it. missing: only where "
           "the client has none.",
           {"replace", "add", "missing"}},
          {"file", &c.file, "lua: the script, relative to this file; watched."},
          {"url", &c.url, "http: where the call is shown to."},
          {"cert_file", &c.cert_file,
           "http: the certificate (PEM) that this server shows the service; read for each new "
           "connection. Empty: none."},
          {"key_file", &c.key_file, "http: its key."},
          {"ca_file", &c.ca_file,
           "http: the authorities (PEM) whose certificates the service may have. Empty: the "
           "machine's."},
          {"max_tokens",
           &c.max_tokens,
           "schema: max_tokens beyond it is a 400. limit: it is lowered to this. trim: of the "
           "prompt. 0: no bound.",
           {},
           0,
           1 << 24},
          {"max_messages",
           &c.max_messages,
           "schema: messages of a chat. 0: no bound.",
           {},
           0,
           1 << 20},
          {"max_n", &c.max_n, "schema, limit: choices, as max_tokens. 0: no bound.", {}, 0, 1024},
          {"max_tools", &c.max_tools, "schema: tools. 0: no bound.", {}, 0, 1 << 20},
          {"max_prompt",
           &c.max_prompt,
           "schema, limit: bytes of all texts of the request; more is a 400. 0: no bound.",
           {},
           0,
           1 << 30},
          {"ttl", &c.ttl, "cache: how long an answer is kept."},
          {"memory", &c.memory, "cache: MiB of kept answers; the oldest go first.", {}, 1, 65536},
      }};
}

bool IsPlainLink(std::string_view name) {
  return name == "schema" || name == "cache:exact" || name == "cache";
}

absl::Status ValidateGuards(const ServerConfig& config) {
  for (const auto& [name, guard] : config.guards) RETURN_IF_ERROR(ValidateGuard(name, guard));
  const auto check = [&](const std::vector<std::string>& names, const std::string& path,
                         bool in_chain) -> absl::Status {
    std::set<std::string> seen;
    for (const std::string& name : names) {
      const bool known =
          config.guards.contains(name) || IsPlainLink(name) || (in_chain && name == kTenantGuards);
      if (!known) {
        std::vector<std::string_view> candidates = {"schema", "cache:exact"};
        if (in_chain) candidates.push_back(kTenantGuards);
        for (const auto& [guard, entry] : config.guards) candidates.push_back(guard);
        const std::string_view nearest = NearestName(name, candidates);
        return absl::InvalidArgumentError(absl::StrCat(
            path, ": there is no guard '", name, "'",
            nearest.empty() ? "" : absl::StrCat(", did you mean '", ToAbsl(nearest), "'?")));
      }
      if (!seen.insert(name).second)
        return absl::InvalidArgumentError(absl::StrCat(path, ": '", name, "' is given twice"));
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(check(config.chain, "chain", true));
  const bool has_tenants =
      std::find(config.chain.begin(), config.chain.end(), kTenantGuards) != config.chain.end();
  for (const auto& [name, tenant] : config.tenants) {
    const std::string path = absl::StrCat("tenants.", name, ".guard");
    RETURN_IF_ERROR(check(tenant.guard, path, false));
    if (!tenant.guard.empty() && !has_tenants) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": expected \"tenant:guard\" in the chain, where the tenant's guards stand"));
    }
  }
  return absl::OkStatus();
}

}  // namespace penstock
