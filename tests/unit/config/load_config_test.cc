#include "config/load_config.h"

#include <fstream>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

using testing::HasSubstr;

absl::StatusOr<ServerConfig> Load(
    const std::string& yaml, std::vector<std::string> assignments = {},
    std::vector<std::pair<std::string, std::string>> environment = {}) {
  return LoadConfig({.file_name = "p.yaml",
                     .file_text = yaml,
                     .environment = std::move(environment),
                     .assignments = std::move(assignments)});
}

std::string ErrorOf(const absl::StatusOr<ServerConfig>& config) {
  return config.ok() ? "" : std::string(config.status().message());
}

TEST(LoadConfig, GivesTheDefaultsWithoutAnySource) {
  const auto config = Load("");
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->server.public_listener.http, "127.0.0.1:8000");
  EXPECT_TRUE(config->models.empty());
}

TEST(LoadConfig, ModelsInheritTheEngineSectionAndOverrideIt) {
  const auto config = Load(
      "engine: {max_batch: 8, kv_memory: 64MiB}\n"
      "models:\n  chat: {path: /m, engine: {max_batch: 4}}\n  small: {path: /s}\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->models.at("chat").engine.max_batch, 4);
  EXPECT_EQ(config->models.at("chat").engine.kv_memory.value, 64 << 20);
  EXPECT_EQ(config->models.at("small").engine.max_batch, 8);
}

TEST(LoadConfig, ModelsOverrideSingleKeysOfSpeculation) {
  const auto config = Load(
      "engine: {speculation: {max_tokens: 4, min_match: 5}}\n"
      "models:\n  m: {path: /m, engine: {speculation: {method: off}}}\n",
      {"models.m.engine.speculation.min_match=2"},
      {{"PENSTOCK_ENGINE_SPECULATION_METHOD", "ngram"}});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->engine.speculation.method, "ngram");
  EXPECT_EQ(config->engine.speculation.min_match, 5);
  const SpeculationConfig& of_model = config->models.at("m").engine.speculation;
  EXPECT_EQ(of_model.max_tokens, 4);
  EXPECT_EQ(of_model.min_match, 2);
  EXPECT_EQ(of_model.method, "off");
  EXPECT_THAT(ErrorOf(Load("engine: {speculation: {method: guess}}")),
              HasSubstr("expected off | auto | ngram | draft | mtp, got 'guess'"));
  EXPECT_THAT(ErrorOf(Load("engine: {speculation: {min_match: 0}}")), HasSubstr("from 1 to 16"));
}

TEST(LoadConfig, LaterSourcesWin) {
  const auto config = Load("engine: {max_batch: 8, max_len: 100}\nmodels: {m: {path: /m}}",
                           {"engine.max_batch=32", "models.m.engine.max_len=300"},
                           {{"PENSTOCK_ENGINE_MAX_BATCH", "16"},
                            {"PENSTOCK_ENGINE_MAX_LEN", "200"},
                            {"PENSTOCK_API_KEY", "x"}});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->engine.max_batch, 32);
  EXPECT_EQ(config->engine.max_len, 200);
  EXPECT_EQ(config->models.at("m").engine.max_batch, 32);
  EXPECT_EQ(config->models.at("m").engine.max_len, 300);
}

TEST(LoadConfig, AssignmentsReachNestedSectionsAndNewModels) {
  const auto config =
      Load("", {"server.public.http=127.0.0.1:9", "models.x.path=/x", "models.x.aliases=a, b"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->server.public_listener.http, "127.0.0.1:9");
  EXPECT_EQ(config->models.at("x").aliases, (std::vector<std::string>{"a", "b"}));
}

TEST(LoadConfig, NamesFileLineKeyAndTheNearestName) {
  EXPECT_EQ(ErrorOf(Load("engine:\n  max_batchh: 3\n")),
            "p.yaml:2: engine.max_batchh: unknown key, did you mean 'max_batch'?");
  EXPECT_THAT(ErrorOf(Load("server:\n  public:\n    htp: x\n")),
              HasSubstr("p.yaml:3: server.public.htp: unknown key, did you mean 'http'?"));
  EXPECT_THAT(ErrorOf(Load("modells: {}\n")), HasSubstr("did you mean 'models'?"));
  EXPECT_THAT(ErrorOf(Load("warehouse: {}\n")),
              HasSubstr("p.yaml:1: warehouse: unknown key; known: roles, chain, server, "));
  EXPECT_THAT(ErrorOf(Load("", {"engine.blok_size=16"})),
              HasSubstr("engine.blok_size: blok_size: unknown key, did you mean 'block_size'?"));
  EXPECT_THAT(ErrorOf(Load("", {}, {{"PENSTOCK_ENGINE_MAX_BATHC", "3"}})),
              HasSubstr("did you mean 'max_batch'?"));
}

TEST(LoadConfig, RefusesValuesOfTheWrongTypeOrRange) {
  EXPECT_EQ(ErrorOf(Load("engine:\n  max_batch: many\n")),
            "p.yaml:2: engine.max_batch: expected a whole number from 1 to 4096, got 'many'");
  EXPECT_THAT(ErrorOf(Load("engine: {max_batch: 0}")), HasSubstr("from 1 to 4096, got '0'"));
  EXPECT_THAT(ErrorOf(Load("engine: {prefix_cache: yes}")),
              HasSubstr("expected true or false, got 'yes'"));
  EXPECT_THAT(ErrorOf(Load("engine: {kv_memory: 3 potatoes}")),
              HasSubstr("expected a size such as"));
  EXPECT_THAT(ErrorOf(Load("engine: {kv_memory: 99999999999TiB}")),
              HasSubstr("expected a size such as"));
  EXPECT_THAT(ErrorOf(Load("drain: {finish: 3}")), HasSubstr("expected a duration such as"));
  EXPECT_THAT(ErrorOf(Load("drain: {finish: -3s}")), HasSubstr("expected a duration such as"));
  EXPECT_THAT(ErrorOf(Load("engine: {dtype: int3}")),
              HasSubstr("expected auto | float32 | bfloat16 | float16, got 'int3'"));
  EXPECT_THAT(ErrorOf(Load("engine: {max_batch: [1]}")), HasSubstr("expected a single value"));
  EXPECT_THAT(ErrorOf(Load("engine: 3")), HasSubstr("engine: expected a mapping"));
  EXPECT_THAT(ErrorOf(Load("roles: 1")), HasSubstr("expected name=value value"));
  EXPECT_THAT(ErrorOf(Load("- a")), HasSubstr("expected a mapping"));
}

TEST(ValidateConfig, RefusesASecondTierOfNothing) {
  const auto error = [](const std::string& engine) {
    const auto config = Load("engine: {" + engine + "}");
    EXPECT_TRUE(config.ok()) << config.status();
    return std::string(ValidateConfig(*config, false).message());
  };
  EXPECT_EQ(error("kv_offload: 1GiB"), "");
  EXPECT_EQ(error("kv_offload: 1GiB, kv_offload_path: /tmp"), "");
  EXPECT_EQ(error("kv_offload: auto"), "engine.kv_offload: expected a size, not auto");
  EXPECT_EQ(error("kv_offload: 1GiB, prefix_cache: false"),
            "engine.kv_offload: expected prefix_cache: true, of which it is the second tier");
  EXPECT_EQ(error("kv_offload_path: /tmp"),
            "engine.kv_offload_path: expected the bytes of it in kv_offload");
}

TEST(LoadConfig, RefusesAKeyGivenTwice) {
  EXPECT_EQ(ErrorOf(Load("engine:\n  max_len: 1\n  max_len: 2\n")),
            "p.yaml:3: engine.max_len: the key is given twice");
}

TEST(LoadConfig, SaysWhereBrokenYamlBreaks) {
  EXPECT_THAT(ErrorOf(Load("engine: {max_len: 1\nx: [")), HasSubstr("p.yaml:"));
}

TEST(ValidateConfig, WantsAKeyBeyondLoopback) {
  ServerConfig config;
  config.server.public_listener.http = "0.0.0.0:8000";
  EXPECT_THAT(std::string(ValidateConfig(config, false).message()), HasSubstr("--allow-anonymous"));
  config.auth.api_keys = {"secret"};
  EXPECT_TRUE(ValidateConfig(config, false).ok());
}

TEST(LoadConfig, ReadsListsAndMappingsOfSections) {
  const ServerConfig config = *Load(
      "auth:\n"
      "  api_keys: {pepper_file: pepper}\n"
      "  jwt:\n"
      "  - {issuer: \"https://a\", audience: x, jwks_file: a.json, roles_claim: roles}\n"
      "  - {issuer: \"https://b\", audience: y, jwks_file: b.json, leeway: 5s}\n"
      "  mtls: {\"spiffe://corp/*\": {tenant: batch, roles: [user]}}\n"
      "roles: {user: [infer], ops: [operate, model]}\n"
      "tls: {cert_file: a.crt, key_file: a.key, client_ca_file: ca.pem, client_auth: require}\n"
      "server: {admin: {unix: /run/a.sock}, state_dir: /s, open_routes: [/metrics/lb]}\n");
  ASSERT_EQ(config.auth.jwt.size(), 2);
  EXPECT_EQ(config.auth.jwt[0].roles_claim, "roles");
  EXPECT_EQ(config.auth.jwt[1].issuer, "https://b");
  EXPECT_EQ(config.auth.jwt[1].leeway, absl::Seconds(5));
  EXPECT_EQ(config.auth.mtls.at("spiffe://corp/*").tenant, "batch");
  EXPECT_EQ(config.auth.key_file.pepper_file, "pepper");
  EXPECT_EQ(config.roles.size(), 2) << "roles of the file replace those that are built in";
  EXPECT_EQ(config.roles.at("ops"), (std::vector<std::string>{"operate", "model"}));
  EXPECT_TRUE(ValidateConfig(config, false).ok()) << ValidateConfig(config, false);
  EXPECT_EQ(ErrorOf(Load("auth:\n  jwt:\n  - {isuer: x}\n")),
            "p.yaml:3: auth.jwt[0].isuer: unknown key, did you mean 'issuer'?");
  EXPECT_THAT(ErrorOf(Load("auth: {jwt: {issuer: x}}")), HasSubstr("auth.jwt: expected a list"));
  EXPECT_THAT(ErrorOf(Load("auth: {mtls: [x]}")), HasSubstr("auth.mtls: expected a mapping"));
  EXPECT_THAT(ErrorOf(Load("auth: {mtls: {a: {tenant: x}, a: {}}}")), HasSubstr("given twice"));
  EXPECT_THAT(ErrorOf(Load("auth: {api_keys: [a]}")), HasSubstr("auth.api_keys: expected"));
  EXPECT_THAT(ErrorOf(Load("registry: {aliases: remote}")), HasSubstr("registry.aliases"));
  EXPECT_THAT(ErrorOf(Load("roles: {user: {infer: 1}}")), HasSubstr("roles.user: expected"));
}

TEST(ValidateConfig, HoldsAccessTogether) {
  const auto refused = [](const char* text, const char* why) {
    const auto config = Load(text);
    ASSERT_TRUE(config.ok()) << text << config.status();
    EXPECT_THAT(std::string(ValidateConfig(*config, false).message()), HasSubstr(why)) << text;
  };
  refused("auth: {api_keys: {pepper_file: p}}", "expected server.state_dir");
  refused("registry: {aliases: local}", "registry.aliases: local: expected server.state_dir");
  refused("tls: {cert_file: a}", "cert_file and key_file, or neither");
  refused("tls: {client_ca_file: a}", "tls.client_ca_file");
  refused("tls: {cert_file: a, key_file: b, client_crl_file: c}",
          "tls.client_crl_file: expected client_ca_file");
  refused(
      "tls: {cert_file: a, key_file: b, client_ca_file: c, client_crl_file: d, client_auth: none}",
      "tls.client_crl_file: expected client_ca_file");
  refused("tls: {cert_file: a, key_file: b, client_auth: require}", "require needs client_ca_file");
  refused("tls: {cert_file: a, key_file: b, min_version: \"1.3\"}", "gRPC takes 1.2 too");
  refused("auth: {mtls: {a: {tenant: b}}}", "auth.mtls: expected tls.client_ca_file");
  refused("auth: {jwt: [{issuer: a, jwks_file: b}]}", "auth.jwt[0].audience");
  refused("auth: {jwt: [{issuer: a, audience: b, jwks_file: c, leeway: 1h}]}", "10m at most");
  refused("server: {open_routes: [metrics]}", "server.open_routes: expected a path");
  refused("server: {open_routes: [/admin/v1/keys]}", "server.open_routes: expected a path");
  refused("server: {admin: {http: \"10.0.0.5:9443\"}}", "operators need a certificate");
  ServerConfig config;
  config.server.public_listener.http = "0.0.0.0:8000";
  config.auth.jwt.resize(1);
  config.auth.jwt[0].issuer = config.auth.jwt[0].audience = config.auth.jwt[0].jwks_file = "a";
  EXPECT_TRUE(ValidateConfig(config, false).ok()) << "a token is asked for";
}

TEST(ValidateConfig, WantsAModelToServeAndOneMeaningPerName) {
  ServerConfig config;
  EXPECT_THAT(std::string(ValidateConfig(config, true).message()), HasSubstr("no model is named"));
  config.models["a"].path = "/a";
  EXPECT_TRUE(ValidateConfig(config, true).ok());
  config.models["b"].path = "/b";
  config.models["b"].aliases = {"a"};
  EXPECT_THAT(std::string(ValidateConfig(config, true).message()),
              HasSubstr("the name 'a' is taken"));
}

TEST(ValidateConfig, WantsOriginsAsBrowsersWriteThem) {
  ServerConfig config;
  config.server.cors_origins = {"*", "https://app.example", "http://localhost:3000", "app://x"};
  EXPECT_TRUE(ValidateConfig(config, false).ok());
  for (const char* bad : {"app.example", "https://app.example/", "https://", "://a", "",
                          "https://a\r\nX: y", "https://*.example", "null"}) {
    config.server.cors_origins = {bad};
    EXPECT_THAT(std::string(ValidateConfig(config, false).message()),
                HasSubstr("server.cors_origins"))
        << bad;
  }
}

TEST(ValidateConfig, LooksAtCombinations) {
  ServerConfig config;
  config.engine.block_size = 24;
  EXPECT_THAT(std::string(ValidateConfig(config, false).message()),
              HasSubstr("expected 16, 32 or 64"));
  config = {};
  config.engine.max_step_tokens = 16;
  EXPECT_THAT(std::string(ValidateConfig(config, false).message()),
              HasSubstr("at least max_batch"));
  config = {};
  config.engine.device = "cuda:x";
  EXPECT_THAT(std::string(ValidateConfig(config, false).message()), HasSubstr("cuda:N"));
}

TEST(ValidateConfig, HoldsWhatAGuardNeedsTogether) {
  const auto error_of = [](const GuardEntry& guard) {
    ServerConfig config;
    config.guards["g"] = guard;
    return ValidateConfig(config, false).ToString();
  };
  GuardEntry call_out;
  call_out.use = "http";
  EXPECT_THAT(error_of(call_out), HasSubstr("guards.g.url: expected http:// or https://"));
  call_out.url = "https://127.0.0.1/check";
  EXPECT_EQ(error_of(call_out), "OK");
  call_out.cert_file = "a.crt";
  EXPECT_THAT(error_of(call_out), HasSubstr("guards.g: expected both cert_file and key_file"));
  call_out.key_file = "a.key";
  call_out.ca_file = "ca.crt";
  EXPECT_EQ(error_of(call_out), "OK");
  call_out.url = "http://127.0.0.1/check";
  EXPECT_THAT(error_of(call_out), HasSubstr("guards.g.url: expected https:// beside certificates"));
  call_out.cert_file = call_out.key_file = "";
  EXPECT_THAT(error_of(call_out), HasSubstr("https:// beside certificates"));
  call_out.ca_file.clear();
  EXPECT_EQ(error_of(call_out), "OK");
  call_out.phases = {"answer"};
  EXPECT_THAT(error_of(call_out), HasSubstr("guards.g.phases"));
}

TEST(ParseHostPort, TakesAddressesAndNothingElse) {
  EXPECT_EQ(ParseHostPort("127.0.0.1:0")->port, 0);
  EXPECT_EQ(ParseHostPort("[::1]:80")->host, "::1");
  EXPECT_TRUE(ParseHostPort("localhost:1")->loopback());
  EXPECT_FALSE(ParseHostPort("10.0.0.1:1")->loopback());
  for (const char* wrong :
       {"", "8000", "a:b", "127.0.0.1:70000", "host.example:1", "127.0.0.1:-1", ":80"}) {
    EXPECT_FALSE(ParseHostPort(wrong).ok()) << wrong;
  }
}

TEST(ReferenceYaml, IsWhatTheRepositoryHolds) {
  std::ifstream file(PENSTOCK_SOURCE_DIR "/configs/reference.yaml");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), ReferenceYaml())
      << "run: penstock check-config --reference > configs/reference.yaml";
}

TEST(ConfigMarkdown, IsWhatTheRepositoryHolds) {
  std::ifstream file(PENSTOCK_SOURCE_DIR "/docs/configuration.md");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), ConfigMarkdown())
      << "run: penstock check-config --configuration > docs/configuration.md";
}

TEST(ReferenceYaml, LoadsAndChangesNothing) {
  const auto config = Load(ReferenceYaml());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->engine.max_step_tokens, EngineConfig{}.max_step_tokens);
  EXPECT_EQ(config->limits.max_body, LimitsSection{}.max_body);
  EXPECT_EQ(config->limits.write_stall, LimitsSection{}.write_stall);
}

}  // namespace
}  // namespace penstock
