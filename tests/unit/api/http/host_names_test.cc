// Which Host a server takes: its own names, addresses, and nothing that a name server could point
// here.
#include "api/http/host_names.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

ServerConfig ListeningOn(std::string listener) {
  ServerConfig config;
  config.server.public_listener.http = std::move(listener);
  return config;
}

TEST(HostNames, AKeylessServerOnLoopbackTakesItsOwnAlone) {
  for (const char* listener : {"127.0.0.1:8000", "[::1]:8000", "localhost:0", "127.1.2.3:80"}) {
    const ServerConfig config = ListeningOn(listener);
    for (const char* good :
         {"", "localhost", "localhost:8000", "LocalHost.", "demo.localhost:80", "127.0.0.1",
          "127.0.0.1:8000", "10.1.2.3:8000", "[::1]", "[::1]:8000", "[2001:db8::1]:1"})
      EXPECT_TRUE(IsAllowedHost(config, good)) << listener << " " << good;
    for (const char* bad :
         {"evil.example", "evil.example:8000", "x", "localhost.evil.example", "evillocalhost",
          ".localhost", "127.0.0.1.evil.example", "127.0.0.1evil", "[evil.example]", "[::1",
          "[::1].evil.example", ":8000", " localhost", "0x7f.1", "2130706433"})
      EXPECT_FALSE(IsAllowedHost(config, bad)) << listener << " " << bad;
  }
}

TEST(HostNames, OthersTakeAnyUnlessNamesAreListed) {
  ServerConfig keyed = ListeningOn("127.0.0.1:8000");
  keyed.auth.api_keys = {"secret"};
  ServerConfig wide = ListeningOn("0.0.0.0:8000");
  for (ServerConfig* config : {&keyed, &wide}) {
    EXPECT_TRUE(IsAllowedHost(*config, "llm.corp"));
    config->server.allowed_hosts = {"LLM.corp", "other:443"};
    EXPECT_TRUE(IsAllowedHost(*config, "llm.corp:8000"));
    EXPECT_TRUE(IsAllowedHost(*config, "other"));
    EXPECT_TRUE(IsAllowedHost(*config, "localhost"));
    EXPECT_FALSE(IsAllowedHost(*config, "sub.llm.corp"));
    EXPECT_FALSE(IsAllowedHost(*config, "evil.example"));
    config->server.allowed_hosts = {"*"};
    EXPECT_TRUE(IsAllowedHost(*config, "evil.example"));
  }
}

}  // namespace
}  // namespace penstock
