// The one configuration tree, as plain structs. Text for each field (unit, consequence) stands in
// src/config/schema.cc.
// Owns its strings. Must not know YAML, flags or the objects that are built from it.
// Threads: value; the server shares one immutable copy.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "penstock/guard_config.h"

namespace penstock {

/// A size in bytes; written as 64MiB, 2GiB, 1000 or "auto" (-1).
struct Bytes {
  int64_t value = 0;
  bool automatic() const { return value < 0; }
  friend bool operator==(Bytes, Bytes) = default;
};
inline constexpr Bytes kAutoBytes{-1};

/// A part of a whole, 0 to 1; written as 1%, 0.5% or 0.01.
struct Share {
  double value = 0;
};

/// Guesses at the next tokens, verified in the step that computes them.
struct SpeculationConfig {
  std::string method = "auto";  // off | auto | ngram | draft | mtp
  std::string draft_model;      // draft: as ModelEntry::path
  int32_t max_tokens = 8;       // guesses for one sequence in one step
  int32_t min_match = 3;        // tokens that must have stood somewhere before
};

struct EngineConfig {
  std::string device = "auto";          // auto | cpu | cuda:N
  std::string dtype = "auto";           // auto | float32 | bfloat16: activations
  std::string kv_dtype = "auto";        // auto | float32 | bfloat16 | int8
  std::string quantize = "none";        // none | int8 | int8-channel | int4 | int4-128: at load
  std::string integer_inputs = "auto";  // auto: of layers that `quantize` rounded | on: of every
                                        // layer of integer codes
  int32_t block_size = 16;              // positions per KV block
  int32_t max_batch = 256;              // sequences computed at once
  int32_t max_step_tokens = 512;        // positions per step: decodes first, the rest is prefill
  absl::Duration itl_target = absl::Milliseconds(100);  // of a step beside streams; 0: none
  int32_t max_len = 0;                                  // positions of one request; 0: the model's
  int32_t max_queue = 1024;                             // requests waiting
  Bytes kv_memory = kAutoBytes;                         // KV cache, decided at start
  double memory_fraction = 0.9;       // of a GPU's memory, that kv_memory: auto fills
  std::string deterministic = "off";  // off | run | strict: products on a GPU
  int32_t pipeline_depth = 1;         // 1 | 2
  int32_t tensor_parallel = 1;        // ranks that share each layer
  bool prefix_cache = true;
  Bytes kv_offload;                  // second tier of the prefix cache; 0: none
  std::string kv_offload_path;       // folder of the file that holds it; empty: host memory
  std::string policy = "priority";   // priority | fcfs
  int32_t threads = 0;               // 0: what the cgroup allows
  std::string cpu_kernels = "auto";  // auto | avx512-vnni | avx512 | avx2-vnni | avx2
  std::string packed_cache;          // folder for packed weights; empty: none are kept
  SpeculationConfig speculation;
};

/// Low-rank adapters of a model, as PEFT writes them.
struct LoraConfig {
  std::string dir;                              // of adapters that requests may name; empty: none
  std::map<std::string, std::string> adapters;  // name -> directory: loaded at start
  int32_t max_adapters = 4;                     // different ones computed in one step
  int32_t max_host_adapters = 8;                // in the device's memory at once
  Bytes host_memory{1 << 30};                   // of their files, beside a GPU
  int32_t max_rank = 16;
  bool experts = false;  // memory is kept for adapters of the experts that tokens are routed to
  bool allow_runtime = false;  // clients may load and unload adapters of `dir`
};

struct ModelEntry {
  std::string path;                       // directory, or org/name[@rev]
  std::string weights = "file";           // file | formula (benchmarks)
  std::vector<std::string> aliases;       // further served names
  std::vector<std::string> fallback;      // models that answer where this one cannot
  std::string chat_template;              // a file instead of the model's own; empty: the model's
  std::string tool_parser = "auto";       // auto | none | a name of CallFormats
  std::string reasoning_parser = "auto";  // auto | none | a name of ReasoningFormats
  EngineConfig engine;                    // the global engine section, overridden
  LoraConfig lora;
};

/// Where operators connect.
struct AdminListener {
  std::string unix_path;  // server.admin.unix; empty: off
  std::string http;       // host:port with mutual TLS; empty: off
};

struct PublicListener {
  std::string http = "127.0.0.1:8000";  // host:port; port 0: any free one; empty: off
  std::string grpc = "127.0.0.1:8001";  // host:port; port 0: any free one; empty: off
};

struct ServerSection {
  PublicListener public_listener;  // server.public in the file
  AdminListener admin;
  int32_t io_threads = 1;
  int32_t text_threads = 0;                // JSON, templates, tokenizing; 0: as the cgroup allows
  std::string compute_cpus;                // "0-3,8": where compute threads run; empty: anywhere
  std::string numa = "default";            // default | interleave
  bool allow_anonymous = false;            // bind beyond loopback without a key
  std::vector<std::string> cors_origins;   // whose pages may read answers; *: everyone's
  std::vector<std::string> allowed_hosts;  // names that Host may have; *: any; empty: as is safe
  std::string agent_check;                 // host:port of HAProxy's agent checks; empty: off
  std::string state_dir;                   // state.db: API keys; empty: none is kept
  std::vector<std::string> open_routes;    // paths that need no credential
  std::string ready_file;                  // written with the bound ports once ready; empty: none
  bool page = true;                        // GET / is a page to try the models and watch the server
};

/// auth.api_keys in the file: keys kept in server.state_dir.
struct KeyFileSection {
  std::string pepper_file;  // a secret that their digests are made with; empty: no such keys
  std::string pepper;       // its content, never from the file
};

/// Whose signed tokens are taken.
struct TokenIssuerSection {
  std::string issuer, audience;               // as the token's iss and aud
  std::string jwks_file, jwks_url;            // where its public keys are: one of the two
  std::string tenant_claim = "sub";           // which claim names the tenant
  std::string roles_claim;                    // which lists roles; empty: `roles` alone
  std::vector<std::string> roles;             // of every token
  absl::Duration leeway = absl::Seconds(60);  // between the clocks
};

/// Who shows a certificate of some name.
struct CertificateEntry {
  std::string tenant;
  std::vector<std::string> roles;
};

struct AuthSection {
  std::string api_key_file;           // one key per line; empty: no key is asked for
  std::vector<std::string> api_keys;  // from --api-key and PENSTOCK_API_KEY, never from the file
  KeyFileSection key_file;
  std::vector<TokenIssuerSection> jwt;
  std::map<std::string, CertificateEntry> mtls;  // by pattern of a name
};

struct TlsSection {
  std::string cert_file, key_file;       // PEM; empty: in clear
  std::string client_ca_file;            // of clients' certificates; empty: none are asked for
  std::string client_crl_file;           // lists of revoked ones; empty: none is asked
  std::string client_auth = "optional";  // none | optional | require
  std::string min_version = "1.2";       // 1.2 | 1.3
};

/// A number of requests or tokens; written as 600, 60k, 2M or 1G. 0: no limit.
struct Count {
  int64_t value = 0;
  friend bool operator==(Count, Count) = default;
};

struct TenantEntry {
  std::vector<std::string> models;  // that it may use; empty: all
  Count rpm, tpm;                   // requests and tokens a minute
  int32_t parallel = 0;             // requests at a time; 0: no limit
  int32_t priority = 0;             // lower runs earlier
  absl::Duration ttl;               // waiting longer is refused; 0: as limits.queue_ttl
  std::string cache = "isolated";   // isolated | shared:<name> | off
  Count budget_tokens;
  absl::Duration budget_per = absl::Hours(24 * 30);
  Share cached_price{1};           // of a prompt token that was in the cache, in tpm and budget
  std::vector<std::string> guard;  // names of guards, in the place of tenant:guard in the chain
};

/// limits.shared: tenants' limits counted over several servers.
struct SharedLimitsSection {
  std::string redis;                // host:port; empty: each server counts its own
  std::string password_file;        // empty: none
  std::string password;             // its content, never from the file
  std::string on_outage = "local";  // local | block
  int32_t replicas = 1;             // servers that share; what each gives alone is divided by it
};

struct LimitsSection {
  SharedLimitsSection shared;
  Bytes max_body{16 << 20};
  int32_t max_n = 16;  // choices per request
  int32_t max_connections = 4096;
  absl::Duration queue_ttl = absl::Seconds(0);  // waiting longer is a 408; 0: forever
  absl::Duration header_timeout = absl::Seconds(30);
  absl::Duration idle_timeout = absl::Seconds(120);
  Bytes stream_buffer{1 << 20};  // unsent bytes per stream before the reader counts as stalled
  absl::Duration write_stall = absl::Seconds(30);      // stalled for so long: cancelled
  absl::Duration stall = absl::Minutes(2);             // of an engine with work; 0: none
  absl::Duration idempotency_ttl = absl::Minutes(10);  // answers repeated under a key; 0: none
  Bytes idempotency_memory{64 << 20};
  absl::Duration response_ttl = absl::Hours(1);  // /v1/responses that are kept; 0: none
  Bytes response_memory{64 << 20};
};

struct ObserveSection {
  std::string log = "auto";    // auto | text | json
  std::string level = "info";  // debug | info | warn | error
  std::string otlp;            // URL of a collector of traces (OTLP over HTTP); empty: none
  Share trace_sample{0.01};    // of the traces that begin here
  absl::Duration trace_slow = absl::Seconds(10);  // taking longer is always told; 0: no time is
  bool legacy_names = false;                      // also the metrics that vLLM has since renamed
};

/// privacy.audit: who did what, in a chain that shows when it was changed.
struct AuditSection {
  bool enabled = false;
  std::string sign_key_file;         // Ed25519, PEM; empty: checkpoints are not signed
  std::string on_failure = "alert";  // alert | block
  Bytes rotate{64 << 20};            // of one file
  absl::Duration ttl;                // files whose last line is older go; 0: none goes
};

struct DrainSection {
  absl::Duration announce = absl::ZeroDuration();  // not ready, but still accepting
  absl::Duration finish = absl::Seconds(120);
};

inline std::map<std::string, std::vector<std::string>> DefaultRoles() {
  return {{"user", {"infer"}},
          {"scraper", {"metrics.read"}},
          {"operator", {"operate", "model", "rollout", "job"}},
          {"auditor", {"audit.read"}},
          {"privacy", {"subject.erase"}},
          {"admin", {"*"}}};
}

struct ServerConfig {
  ServerSection server;
  AuthSection auth;
  TlsSection tls;
  std::map<std::string, std::vector<std::string>> roles = DefaultRoles();  // name -> permissions
  LimitsSection limits;
  EngineConfig engine;
  std::map<std::string, ModelEntry> models;
  std::string aliases = "file";                // registry.aliases: file | local
  std::map<std::string, TenantEntry> tenants;  // "*": all others
  std::map<std::string, GuardEntry> guards;
  std::vector<std::string> chain;  // names of guards, in the order of the request side
  AuditSection audit;              // privacy.audit in the file
  ObserveSection observe;
  DrainSection drain;
};

}  // namespace penstock
