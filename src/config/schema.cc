#include "config/schema.h"

#include "config/guard_fields.h"

namespace penstock {
namespace {

ConfigSection DescribeIssuer(TokenIssuerSection& c) {
  return {
      "",
      "",
      {
          {"issuer", &c.issuer, "The token's iss."},
          {"audience", &c.audience, "What its aud must be or contain."},
          {"jwks_file", &c.jwks_file,
           "A JSON Web Key Set with the issuer's public keys, relative to this file; watched."},
          {"jwks_url", &c.jwks_url,
           "The URL (https, or http on this machine) of such a set instead: fetched every five "
           "minutes and when a token names a key that is not known; what was fetched last counts "
           "for a day."},
          {"tenant_claim", &c.tenant_claim, "The claim that names the tenant; a.b is b within a."},
          {"roles_claim", &c.roles_claim,
           "The claim that lists roles: an array, or words. Empty: none."},
          {"roles", &c.roles, "Roles of every token of this issuer."},
          {"leeway", &c.leeway, "What clocks may differ by, for exp and nbf."},
      }};
}

ConfigSection DescribeClient(CertificateEntry& c) {
  return {"",
          "",
          {
              {"tenant", &c.tenant, "Whose calls these are."},
              {"roles", &c.roles, "What they may."},
          }};
}

ConfigSection DescribeTenant(TenantEntry& c) {
  return {"",
          "",
          {
              {"models", &c.models,
               "Names of models (and adapters) that it may use. Empty: all; others are a 404."},
              {"rpm", &c.rpm, "Requests a minute. 0: no limit."},
              {"tpm", &c.tpm,
               "Tokens a minute, of prompts and answers (60k, 2M). max_tokens of a request is "
               "reserved when it comes, and what it did not take is given back. 0: no limit."},
              {"cached_price", &c.cached_price,
               "What a token of a prompt that was found in the KV cache counts in tpm and budget "
               "(1, 10%, 0.1). Known when a request has ended: it reserves the whole."},
              {"parallel", &c.parallel, "Requests at a time. 0: no limit.", {}, 0, 1 << 20},
              {"priority",
               &c.priority,
               "Lower runs earlier; a request may ask for a higher number, not for a lower one.",
               {},
               -1000,
               1000},
              {"ttl", &c.ttl,
               "Waiting longer before the first step is a 408, predicted so it is a 429. 0s: as "
               "limits.queue_ttl."},
              {"cache", &c.cache,
               "Whose prefixes it may find in the KV cache, and so see in the time they take: "
               "isolated: its own. shared:NAME: of all with that name. off: none."},
              {"guard", &c.guard, "Guards that stand where the chain says tenant:guard."},
          },
          {{"budget",
            "Tokens in a longer time.",
            {
                {"tokens", &c.budget_tokens, "Tokens (50M). 0: no limit."},
                {"per", &c.budget_per, "Counted from the server's start, then anew (720h)."},
            }}}};
}

template <class T>
std::vector<std::pair<std::string, ConfigSection>> DescribeAll(std::vector<T>& entries,
                                                               ConfigSection (*describe)(T&)) {
  std::vector<std::pair<std::string, ConfigSection>> out;
  for (T& entry : entries) out.emplace_back(std::to_string(out.size()), describe(entry));
  return out;
}

template <class T>
std::vector<std::pair<std::string, ConfigSection>> DescribeAll(std::map<std::string, T>& entries,
                                                               ConfigSection (*describe)(T&)) {
  std::vector<std::pair<std::string, ConfigSection>> out;
  for (auto& [name, entry] : entries) out.emplace_back(name, describe(entry));
  return out;
}

}  // namespace

ConfigSection DescribeServer(ServerConfig& c) {
  ConfigSection root{"",
                     "",
                     {{"roles", &c.roles,
                       "What the roles of callers may: permissions, * is all of them. Permissions: "
                       "infer, metrics.read, config, model, rollout, keys, job, operate, "
                       "audit.read, subject.erase."}}};
  root.sections.push_back(
      {"server",
       "Listeners and threads; changed only by a restart.",
       {
           {"io_threads", &c.server.io_threads, "Threads that read and write sockets.", {}, 1, 256},
           {"text_threads",
            &c.server.text_threads,
            "Threads for JSON, templates and tokenizing. 0: as many as the cgroup allows, 4 at "
            "most.",
            {},
            0,
            256},
           {"compute_cpus", &c.server.compute_cpus,
            "CPUs that compute threads run on, one each, as in 0-3,8: for machines that the server "
            "shares with little else. Empty: wherever the system puts them."},
           {"numa",
            &c.server.numa,
            "Memory of machines with several NUMA nodes. interleave: spread over all of them, so "
            "that every core reads weights at the speed of all memory. default: where the system "
            "puts it.",
            {"default", "interleave"}},
           {"allow_anonymous", &c.server.allow_anonymous,
            "Allows a bind beyond loopback although no API key is asked for."},
           {"cors_origins", &c.server.cors_origins,
            "Origins (https://app.example) whose pages may read answers in a browser; \"*\": every "
            "page, which then also reaches what asks for no key. Empty: none."},
           {"allowed_hosts", &c.server.allowed_hosts,
            "Names (llm.corp) that the Host of HTTP requests may have beside localhost, names "
            "under "
            "it, and addresses; others are a 421. It keeps out pages whose name was pointed at "
            "this "
            "machine. \"*\": any. Empty: as if none were listed where no credential is asked for "
            "and the server listens on loopback, else any."},
           {"agent_check", &c.server.agent_check,
            "host:port where HAProxy's agent-check hears down (loading or failed), up ready with a "
            "maxconn, or drain. Needs HTTP. Port 0: any free one. Empty: off."},
           {"state_dir", &c.server.state_dir,
            "The folder of state.db (API keys, what tenants used) and of the audit log. Empty: no "
            "state "
            "is kept."},
           {"open_routes", &c.server.open_routes,
            "Paths that need no credential beside /health and /ready, such as [/metrics/lb]."},
           {"ready_file", &c.server.ready_file,
            "A file that receives {\"http\": port, \"grpc\": port} (and agent_check) once the "
            "model can serve. "
            "Empty: none."},
           {"page", &c.server.page,
            "Serve the page at / to everyone who reaches the port: it holds no data itself, and "
            "asks "
            "for the key that each figure needs. false: / is a 404."},
       },
       {{"public",
         "Where clients connect.",
         {
             {"http", &c.server.public_listener.http,
              "HTTP as host:port. Port 0: any free one. Empty: off."},
             {"grpc", &c.server.public_listener.grpc,
              "gRPC as host:port. Port 0: any free one. Empty: off."},
         }},
        {"admin",
         "Where operators connect: /admin/v1.",
         {
             {"unix", &c.server.admin.unix_path,
              "The path of a socket that only this user can open; whoever can may do everything. "
              "Empty: none."},
             {"http", &c.server.admin.http,
              "host:port, where clients need a certificate of tls.client_ca_file. Empty: none."},
         }}}});
  root.sections.push_back(
      {"auth",
       "Who may call. Empty: everyone who reaches the listener, which is then loopback only.",
       {
           {"api_key_file", &c.auth.api_key_file,
            "A file with one key per line; clients send one as a bearer token. Empty: none."},
       },
       {{"api_keys",
         "Keys with a tenant, roles and an end, made by `penstock admin keys`.",
         {
             {"pepper_file", &c.auth.key_file.pepper_file,
              "A file with a secret of at least 32 bytes, relative to this file. Keys are kept in "
              "server.state_dir as digests made with it. Empty: there are no such keys."},
         }}},
       {{"jwt",
         "Issuers of signed tokens (RS256, PS256, ES256, EdDSA) that are taken as credentials.",
         false, [&c](const std::string&) { return DescribeIssuer(c.auth.jwt.emplace_back()); },
         [&c] { return DescribeAll(c.auth.jwt, DescribeIssuer); }},
        {"mtls",
         "Clients by a name (URI or DNS) of their certificate; * stands for any text, the longest "
         "pattern counts.",
         true, [&c](const std::string& name) { return DescribeClient(c.auth.mtls[name]); },
         [&c] { return DescribeAll(c.auth.mtls, DescribeClient); }}}});
  root.sections.push_back(
      {"tls",
       "Of the HTTP and gRPC listeners. Files are PEM, relative to this file, and watched: new "
       "ones "
       "are used by connections that begin then.",
       {
           {"cert_file", &c.tls.cert_file,
            "The server's certificate and those between it and the root. Empty: no TLS."},
           {"key_file", &c.tls.key_file, "Its private key, without a password."},
           {"client_ca_file", &c.tls.client_ca_file,
            "Authorities of clients' certificates. Empty: clients are not asked for one."},
           {"client_crl_file", &c.tls.client_crl_file,
            "Revocation lists (CRLs), one of each authority of client_ca_file; requests on open "
            "connections are judged by new ones too. Empty: none."},
           {"client_auth",
            &c.tls.client_auth,
            "Whether a client must have a certificate of client_ca_file.",
            {"none", "optional", "require"}},
           {"min_version", &c.tls.min_version, "The oldest version. gRPC: 1.2.", {"1.2", "1.3"}},
       }});
  root.sections.push_back(
      {"limits",
       "Bounds that keep one client from harming the others.",
       {
           {"max_body", &c.limits.max_body, "Bytes of one request. More is a 413."},
           {"max_n", &c.limits.max_n, "Choices of one request (n).", {}, 1, 1024},
           {"max_connections",
            &c.limits.max_connections,
            "Open HTTP connections; further ones are closed at once.",
            {},
            1,
            1 << 20},
           {"queue_ttl", &c.limits.queue_ttl,
            "Waiting longer before the first step is a 408. 0s: no limit."},
           {"header_timeout", &c.limits.header_timeout,
            "Time for a client to send the headers of a request. Its body may take idle_timeout "
            "and, of each 4 KiB that came, a second."},
           {"idle_timeout", &c.limits.idle_timeout,
            "Keep-alive connections are closed after so long without a request."},
           {"stream_buffer", &c.limits.stream_buffer,
            "Unsent bytes per stream beyond which its reader counts as stalled."},
           {"write_stall", &c.limits.write_stall, "A reader stalled for so long is cancelled."},
           {"stall", &c.limits.stall,
            "An engine with work that makes no step for so long is given up: the process says "
            "where "
            "its threads stand and exits with 70, for its supervisor to start it again. 0s: "
            "never."},
           {"idempotency_ttl", &c.limits.idempotency_ttl,
            "How long an answer is kept to be repeated to the same request under the same "
            "Idempotency-Key. 0s: the header is ignored."},
           {"idempotency_memory", &c.limits.idempotency_memory,
            "Bytes of such answers; the oldest go first."},
           {"response_ttl", &c.limits.response_ttl,
            "How long a response of /v1/responses is kept, to be read or gone on from. 0s: none "
            "is kept."},
           {"response_memory", &c.limits.response_memory,
            "Bytes of kept responses with their conversations; the oldest go first."},
       },
       {DescribeSharedLimits(c.limits.shared)}});
  root.entries.push_back({"tenants",
                          "Limits of tenants by name, as keys, tokens and certificates name them. "
                          "\"*\": of all others, "
                          "and what the others begin from.",
                          true,
                          [&c](const std::string& name) {
                            TenantEntry base;
                            if (const auto all = c.tenants.find("*"); all != c.tenants.end())
                              base = all->second;
                            return DescribeTenant(c.tenants.try_emplace(name, base).first->second);
                          },
                          [&c] { return DescribeAll(c.tenants, DescribeTenant); }});
  root.fields.push_back(
      {"chain", &c.chain,
       "Links that every request passes, in this order, and its answer in reverse: names of "
       "guards, "
       "schema, cache:exact, and tenant:guard for the tenant's own. Empty: none."});
  root.entries.push_back({"guards", "Links of the chain by name.", true,
                          [&c](const std::string& name) { return DescribeGuard(c.guards[name]); },
                          [&c] { return DescribeAll(c.guards, DescribeGuard); }});
  root.sections.push_back(DescribeEngine(c.engine));
  root.sections.push_back(
      {"registry",
       "Who says what the names of models mean.",
       {
           {"aliases",
            &c.aliases,
            "file: models' own aliases are all there are. local: operators set further ones while "
            "the server runs (/admin/v1/aliases), which are kept in server.state_dir.",
            {"file", "local"}},
       }});
  root.sections.push_back(DescribePrivacy(c.audit));
  root.sections.push_back(DescribeObserve(c.observe));
  root.sections.push_back(
      {"drain",
       "What SIGTERM does; a second one ends at once.",
       {
           {"announce", &c.drain.announce,
            "Time before, in which /ready is 503 and the agent check says drain while requests are "
            "still taken: balancers need it to look elsewhere. SIGINT leaves it out."},
           {"finish", &c.drain.finish, "Time that running requests get to finish."},
       }});
  return root;
}

}  // namespace penstock
