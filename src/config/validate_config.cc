#include <arpa/inet.h>
#include <unistd.h>

#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "config/config_diff.h"
#include "config/guard_fields.h"
#include "config/load_config.h"
#include "config/schema.h"

extern char** environ;

namespace penstock {
namespace {

absl::Status ValidateEngine(const EngineConfig& engine, const std::string& path) {
  const auto error = [&](auto... parts) {
    return absl::InvalidArgumentError(absl::StrCat(path, parts...));
  };
  if (engine.block_size != 16 && engine.block_size != 32 && engine.block_size != 64) {
    return error(".block_size: expected 16, 32 or 64, got ", engine.block_size);
  }
  if (engine.max_step_tokens < engine.max_batch) {
    return error(".max_step_tokens: expected at least max_batch (", engine.max_batch, "), got ",
                 engine.max_step_tokens);
  }
  const bool drafts = engine.speculation.method == "draft";
  if (drafts == engine.speculation.draft_model.empty()) {
    return error(".speculation.draft_model: expected ",
                 drafts ? "a model, as method is draft" : "none, as method is not draft");
  }
  if (engine.kv_offload.automatic()) return error(".kv_offload: expected a size, not auto");
  const bool offloads = engine.kv_offload.value > 0;
  if (offloads && !engine.prefix_cache)
    return error(".kv_offload: expected prefix_cache: true, of which it is the second tier");
  if (!offloads && !engine.kv_offload_path.empty())
    return error(".kv_offload_path: expected the bytes of it in kv_offload");
  int32_t device = 0;
  const bool cuda = engine.device.starts_with("cuda:") &&
                    absl::SimpleAtoi(engine.device.substr(5), &device) && device >= 0;
  const std::set<std::string> named = {"auto", "cpu", "cuda", "cuda-emulated"};
  if (!named.contains(engine.device) && !cuda) {
    return error(".device: expected auto, cpu, cuda:N or cuda-emulated, got '", engine.device, "'");
  }
  return absl::OkStatus();
}

absl::Status ValidateLora(const LoraConfig& lora, const std::string& path) {
  const auto least = std::max(lora.max_adapters, static_cast<int32_t>(lora.adapters.size()));
  if (lora.max_host_adapters < least) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ".max_host_adapters: expected at least ", least,
        ", as many as max_adapters and as there are adapters, got ", lora.max_host_adapters));
  }
  if (lora.allow_runtime && lora.dir.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ".allow_runtime: expected a dir that adapters may come from"));
  }
  return absl::OkStatus();
}

absl::Status ValidateModels(const ServerConfig& config) {
  std::map<std::string, std::string> owner;  // every served name -> the model it means
  for (const auto& [name, model] : config.models) {
    const std::string path = absl::StrCat("models.", name);
    if (model.path.empty())
      return absl::InvalidArgumentError(
          absl::StrCat(path, ".path: expected a directory or org/name"));
    RETURN_IF_ERROR(ValidateEngine(model.engine, absl::StrCat(path, ".engine")));
    RETURN_IF_ERROR(ValidateLora(model.lora, absl::StrCat(path, ".lora")));
    std::vector<std::string> names = model.aliases;
    names.push_back(name);
    for (const auto& [adapter, dir] : model.lora.adapters) names.push_back(adapter);
    for (const std::string& served : names) {
      const auto [it, fresh] = owner.emplace(served, name);
      if (!fresh) {
        return absl::InvalidArgumentError(
            absl::StrCat(path, ": the name '", served, "' is taken by models.", it->second));
      }
    }
  }
  for (const auto& [name, model] : config.models) {
    for (const std::string& other : model.fallback) {
      const auto found = owner.find(other);
      if (found == owner.end() || found->second == name) {
        return absl::InvalidArgumentError(absl::StrCat(
            "models.", name, ".fallback: expected another model's name, got '", other, "'"));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateListener(const std::string& address, std::string_view path, bool keyless_ok) {
  if (address.empty()) return absl::OkStatus();
  const absl::StatusOr<HostPort> parsed = ParseHostPort(address);
  if (!parsed.ok()) return Annotate(parsed.status(), path);
  if (parsed->loopback() || keyless_ok) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(ToAbsl(path), ": ", address,
                   " is reachable from other machines and no API key is asked for: give --api-key "
                   "(or auth.api_key_file), or say "
                   "--allow-anonymous"));
}

/// Nobody on the way can put other text in its place.
bool IsTrustedUrl(std::string_view url) {
  constexpr std::string_view kSecure = "https://", kPlain = "http://";
  if (url.starts_with(kSecure)) return url.size() > kSecure.size();
  if (!url.starts_with(kPlain)) return false;
  std::string_view host = url.substr(kPlain.size());
  host = host.substr(0, host.find_first_of("/?#"));
  if (host.find('@') != host.npos) return false;
  const absl::StatusOr<HostPort> parsed = ParseHostPort(
      host.find(':') == host.npos || host.ends_with(']') ? absl::StrCat(ToAbsl(host), ":80")
                                                         : std::string(host));
  return parsed.ok() && parsed->loopback();
}

absl::Status ValidateAccess(const ServerConfig& config) {
  const TlsSection& tls = config.tls;
  const auto error = [](auto... parts) {
    return absl::InvalidArgumentError(absl::StrCat(parts...));
  };
  if (tls.cert_file.empty() != tls.key_file.empty())
    return error("tls: expected cert_file and key_file, or neither");
  if (tls.cert_file.empty() && !tls.client_ca_file.empty())
    return error("tls.client_ca_file: expected cert_file and key_file beside it");
  const bool asks = tls.client_auth != "none" || !config.server.admin.http.empty();
  if (!tls.client_crl_file.empty() && (tls.client_ca_file.empty() || !asks)) {
    return error(
        "tls.client_crl_file: expected client_ca_file, and that clients are asked for certificates "
        "of it");
  }
  if (tls.client_auth == "require" && tls.client_ca_file.empty())
    return error("tls.client_auth: require needs client_ca_file");
  if (tls.min_version == "1.3" && !tls.cert_file.empty() &&
      !config.server.public_listener.grpc.empty())
    return error("tls.min_version: gRPC takes 1.2 too: 1.3 needs server.public.grpc to be off");
  if (!config.auth.mtls.empty() && (tls.client_ca_file.empty() || tls.client_auth == "none"))
    return error("auth.mtls: expected tls.client_ca_file, which clients' certificates are of");
  for (const std::string& path : config.server.open_routes) {
    if (!path.starts_with('/') || path.starts_with("/admin"))
      return error("server.open_routes: expected a path such as /metrics/lb, got '", path, "'");
  }
  for (size_t i = 0; i < config.auth.jwt.size(); ++i) {
    const TokenIssuerSection& issuer = config.auth.jwt[i];
    for (const auto& [name, value] : {std::pair("issuer", issuer.issuer),
                                      {"audience", issuer.audience},
                                      {"tenant_claim", issuer.tenant_claim}}) {
      if (value.empty()) return error("auth.jwt[", i, "].", name, ": expected a value");
    }
    if (issuer.jwks_file.empty() == issuer.jwks_url.empty())
      return error("auth.jwt[", i, "]: expected jwks_file or jwks_url, one of them");
    if (!issuer.jwks_url.empty() && !IsTrustedUrl(issuer.jwks_url)) {
      return error("auth.jwt[", i,
                   "].jwks_url: expected https://..., or http:// on this machine, got '",
                   issuer.jwks_url, "'");
    }
    if (issuer.leeway > absl::Minutes(10))
      return error("auth.jwt[", i, "].leeway: expected 10m at most");
  }
  for (const auto& [name, tenant] : config.tenants) {
    const bool shared = tenant.cache.starts_with("shared:") && tenant.cache.size() > 7;
    if (tenant.cache != "isolated" && tenant.cache != "off" && !shared) {
      return error("tenants.", name, ".cache: expected isolated, off or shared:NAME, got '",
                   tenant.cache, "'");
    }
    if (tenant.budget_per < absl::Seconds(1))
      return error("tenants.", name, ".budget.per: expected a second at least");
  }
  if (config.server.admin.http.empty()) return absl::OkStatus();
  if (tls.client_ca_file.empty())
    return error(
        "server.admin.http: expected tls with a client_ca_file: operators need a certificate");
  return ValidateListener(config.server.admin.http, "server.admin.http", /*keyless_ok=*/true);
}

// As a browser writes them: scheme://host, perhaps with a port, and nothing after it.
absl::Status ValidateOrigins(const std::vector<std::string>& origins) {
  for (const std::string& origin : origins) {
    const size_t host = origin.find("://");
    const bool plain = host != origin.npos && host > 0 && host + 3 < origin.size() &&
                       origin.find_first_of("/ \t\r\n,*", host + 3) == origin.npos;
    if (origin == "*" || plain) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "server.cors_origins: expected * or an origin such as https://app.example, got '", origin,
        "'"));
  }
  return absl::OkStatus();
}

// Names and addresses, of which Host adds a port.
absl::Status ValidateHosts(const std::vector<std::string>& hosts) {
  for (const std::string& host : hosts) {
    const bool plain = !host.empty() && host.find_first_of("/ \t\r\n,*@") == host.npos;
    if (host == "*" || plain) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "server.allowed_hosts: expected * or a name such as llm.corp, got '", host, "'"));
  }
  return absl::OkStatus();
}

absl::Status ValidateAccounts(const ServerConfig& config) {
  const auto error = [](auto... parts) {
    return absl::InvalidArgumentError(absl::StrCat(parts...));
  };
  const SharedLimitsSection& shared = config.limits.shared;
  if (shared.redis.empty() && !shared.password_file.empty())
    return error("limits.shared.password_file: expected redis beside it");
  const size_t colon = shared.redis.rfind(':');
  int32_t port = 0;
  if (!shared.redis.empty() &&
      (colon == shared.redis.npos || colon == 0 ||
       !absl::SimpleAtoi(shared.redis.substr(colon + 1), &port) || port < 1 || port > 65535)) {
    return error("limits.shared.redis: expected host:port such as 127.0.0.1:6379, got '",
                 shared.redis, "'");
  }
  if (config.audit.enabled && config.server.state_dir.empty())
    return error("privacy.audit.enabled: expected server.state_dir, where the log is kept");
  if (config.audit.rotate.value < (64 << 10))
    return error("privacy.audit.rotate: expected a size of 64KiB at least");
  return absl::OkStatus();
}

void PrintSection(const ConfigSection& section, const std::string& indent, std::string& out) {
  for (const ConfigField& field : section.fields) {
    absl::StrAppend(&out, indent, "# ", ToAbsl(field.doc), "\n");
    absl::StrAppend(&out, indent, ToAbsl(field.name), ": ", FormatField(field), "\n");
  }
  for (const ConfigEntries& entries : section.entries) {
    absl::StrAppend(&out, indent, "# ", ToAbsl(entries.doc), "\n", indent, ToAbsl(entries.name),
                    entries.has_names ? ": {}\n" : ": []\n");
    std::string example;
    PrintSection(entries.add("name"), "", example);
    if (entries.has_names) absl::StrAppend(&out, indent, "#   name:\n");
    absl::string_view begin = entries.has_names ? "  " : "- ";
    for (absl::string_view line : absl::StrSplit(example, '\n', absl::SkipEmpty())) {
      const bool comment = absl::StartsWith(line, "#");  // stands before the line it explains
      absl::StrAppend(&out, indent, "#   ", comment ? "  " : std::exchange(begin, "  "), line,
                      "\n");
    }
  }
  for (const ConfigSection& sub : section.sections) {
    absl::StrAppend(&out, indent.empty() ? "\n" : "", indent, "# ", ToAbsl(sub.doc), "\n", indent,
                    ToAbsl(sub.name), ":\n");
    PrintSection(sub, indent + "  ", out);
  }
}

}  // namespace

bool HostPort::loopback() const {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

absl::StatusOr<HostPort> ParseHostPort(std::string_view text) {
  const absl::Status wrong = absl::InvalidArgumentError(absl::StrCat(
      "expected host:port such as 127.0.0.1:8000 or [::1]:8000, got '", ToAbsl(text), "'"));
  const size_t colon = text.rfind(':');
  if (colon == text.npos || colon == 0) return wrong;
  HostPort out;
  out.host = std::string(text.substr(0, colon));
  if (out.host.starts_with('[') && out.host.ends_with(']'))
    out.host = out.host.substr(1, out.host.size() - 2);
  int32_t port = 0;
  if (!absl::SimpleAtoi(ToAbsl(text.substr(colon + 1)), &port) || port < 0 || port > 65535)
    return wrong;
  in6_addr address;
  const bool numeric = inet_pton(AF_INET, out.host.c_str(), &address) == 1 ||
                       inet_pton(AF_INET6, out.host.c_str(), &address) == 1;
  if (!numeric && out.host != "localhost") return wrong;
  out.port = static_cast<uint16_t>(port);
  return out;
}

bool AsksForCredentials(const AuthSection& auth) {
  return !auth.api_keys.empty() || !auth.api_key_file.empty() ||
         !auth.key_file.pepper_file.empty() || !auth.jwt.empty() || !auth.mtls.empty();
}

absl::Status ValidateConfig(const ServerConfig& config, bool serving) {
  const bool keyless_ok = config.server.allow_anonymous || AsksForCredentials(config.auth);
  RETURN_IF_ERROR(ValidateAccess(config));
  if (!config.auth.key_file.pepper_file.empty() && config.server.state_dir.empty()) {
    return absl::InvalidArgumentError(
        "auth.api_keys: expected server.state_dir, which the keys are kept in");
  }
  RETURN_IF_ERROR(
      ValidateListener(config.server.public_listener.http, "server.public.http", keyless_ok));
  RETURN_IF_ERROR(
      ValidateListener(config.server.public_listener.grpc, "server.public.grpc", keyless_ok));
  const std::string& agent = config.server.agent_check;
  if (!agent.empty()) {
    if (config.server.public_listener.http.empty())
      return absl::InvalidArgumentError("server.agent_check: expected none where HTTP is off");
    if (const absl::StatusOr<HostPort> parsed = ParseHostPort(agent); !parsed.ok())
      return Annotate(parsed.status(), "server.agent_check");
  }
  RETURN_IF_ERROR(ValidateOrigins(config.server.cors_origins));
  RETURN_IF_ERROR(ValidateHosts(config.server.allowed_hosts));
  if (const std::string& otlp = config.observe.otlp;
      !otlp.empty() && !(otlp.starts_with("http://") && otlp.size() > 7) &&
      !(otlp.starts_with("https://") && otlp.size() > 8)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "observe.otlp: expected a URL such as http://127.0.0.1:4318, got '", otlp, "'"));
  }
  RETURN_IF_ERROR(ValidateEngine(config.engine, "engine"));
  RETURN_IF_ERROR(ValidateModels(config));
  if (config.aliases == "local" && config.server.state_dir.empty()) {
    return absl::InvalidArgumentError(
        "registry.aliases: local: expected server.state_dir, which the aliases are kept in");
  }
  RETURN_IF_ERROR(ValidateGuards(config));
  const LimitsSection& limits = config.limits;
  if (limits.max_body.automatic() || limits.stream_buffer.automatic() ||
      limits.idempotency_memory.automatic() || limits.response_memory.automatic()) {
    return absl::InvalidArgumentError(
        "limits.max_body, stream_buffer, idempotency_memory and response_memory: expected a size, "
        "not auto");
  }
  RETURN_IF_ERROR(ValidateAccounts(config));
  if (serving && config.models.empty()) {
    return absl::InvalidArgumentError(
        "no model is named: penstock serve MODEL, or models: in the configuration");
  }
  if (serving && config.server.public_listener.http.empty() &&
      config.server.public_listener.grpc.empty()) {
    return absl::InvalidArgumentError("server.public: http and grpc are both off");
  }
  return absl::OkStatus();
}

std::string ReferenceYaml() {
  ServerConfig config;
  std::string out =
      "# Every key with its default. Generated by `penstock check-config --reference`; do not "
      "edit.\n"
      "# Sizes: 64MiB, 2GiB. Durations: 500ms, 30s, 2m. Any key can be set with --set a.b=value, "
      "and all but\n"
      "# those of models by the environment: PENSTOCK_ENGINE_MAX_LEN=4096. A running server takes\n"
      "# changes of ";
  out += absl::StrJoin(LivePaths(), ", ", [](std::string* text, std::string_view path) {
    text->append(path.ends_with('.') ? path.substr(0, path.size() - 1) : path);
  });
  out +=
      " by SIGHUP or\n"
      "# when the file changes, all together or, with any error, none; others need a restart.\n";
  PrintSection(DescribeServer(config), "", out);
  ModelEntry model;
  model.path = "models/demo";
  ConfigSection described = DescribeModel(model);
  described.sections.pop_back();  // its engine section repeats the one above
  absl::StrAppend(&out, "\n# ", ToAbsl(described.doc), "\nmodels:\n  demo:\n");
  PrintSection(described, "    ", out);
  absl::StrAppend(&out,
                  "    # As the engine section above; what is not given here is taken from "
                  "there.\n    engine: {}\n");
  return out;
}

std::vector<std::pair<std::string, std::string>> PenstockEnvironment() {
  std::vector<std::pair<std::string, std::string>> out;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (!text.starts_with("PENSTOCK_") || equals == text.npos) continue;
    out.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return out;
}

}  // namespace penstock
