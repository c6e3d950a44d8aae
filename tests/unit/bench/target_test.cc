// What may be given as a target.
#include "bench/target.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <set>
#include <string>

#include "bench/target_connection.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

std::string Parsed(const std::string& text) {
  const absl::StatusOr<Target> target = ParseTarget(text);
  if (!target.ok()) return "refused";
  return (target->tls ? "tls " : "") + target->authority() + target->prefix;
}

TEST(Target, IsAnAddressOrAUrl) {
  EXPECT_EQ(Parsed("127.0.0.1:8000"), "127.0.0.1:8000");
  EXPECT_EQ(Parsed("llm.example:8000"), "llm.example:8000");
  EXPECT_EQ(Parsed("[::1]:8000"), "[::1]:8000");
  EXPECT_EQ(Parsed("http://llm.example"), "llm.example:80");
  EXPECT_EQ(Parsed("https://llm.example/v1"), "tls llm.example:443");
  EXPECT_EQ(Parsed("https://llm.example:8443/openai/v1/"), "tls llm.example:8443/openai");
  EXPECT_EQ(Parsed("http://[::1]"), "[::1]:80");
  EXPECT_EQ(Parsed("https://[::1]:8443/v1"), "tls [::1]:8443");
}

TEST(Target, HasANameOfItsOwnForEachSchemeAndPath) {
  std::set<std::string> names;
  for (const char* text : {"host:443", "https://host", "host:443/a", "https://host/a/v1",
                           "https://host/b", "[::1]:443"})
    EXPECT_TRUE(names.insert(ParseTarget(text)->name()).second) << text;
  EXPECT_EQ(names.count("host:443"), 1u) << "short where that says all";
  EXPECT_EQ(names.count("https://host:443/a"), 1u);
  for (const std::string& name : names) EXPECT_EQ(ParseTarget(name)->name(), name);
}

TEST(Target, WhatIsNoneIsRefused) {
  for (const char* text : {"", "nowhere", "host:", "host:0", "host:65536", "host:http", ":8000",
                           "http://", "https://:443", "[::1:8000", "user@host:80", "a b:80"}) {
    EXPECT_EQ(Parsed(text), "refused") << text;
  }
}

TEST(Target, RequestsNameHostAndPrefix) {
  const absl::StatusOr<Target> target = ParseTarget("http://llm.example/openai/v1");
  ASSERT_TRUE(target.ok());
  const std::string bytes = HttpRequestBytes(*target, "GET", "/v1/models", "");
  EXPECT_TRUE(bytes.starts_with("GET /openai/v1/models HTTP/1.1\r\nHost: llm.example:80\r\n"))
      << bytes;
}

/// Until it holds: packets of this machine take some microseconds.
void WaitFor(const std::function<bool()>& holds) {
  while (!holds()) poll(nullptr, 0, 1);
}

TEST(TargetConnection, KnowsWhatItsPeerCannotHaveRead) {
  const Socket server(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  TargetAddress address;
  auto* const at = reinterpret_cast<sockaddr_in*>(&address.storage);
  at->sin_family = AF_INET;
  at->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.size = sizeof(sockaddr_in);
  ASSERT_EQ(bind(server.fd(), reinterpret_cast<sockaddr*>(at), address.size), 0);
  ASSERT_EQ(listen(server.fd(), 1), 0);
  ASSERT_EQ(getsockname(server.fd(), reinterpret_cast<sockaddr*>(at), &address.size), 0);
  const auto connection = TargetConnection::To(address);
  ASSERT_TRUE(connection.ok()) << connection.status();
  {
    const Socket peer(accept(server.fd(), nullptr, nullptr));
    WaitFor([&] { return (*connection)->Write("one", 3) == 3; });
    WaitFor([&] { return !(*connection)->Unread(); });  // acknowledged, so that it may be read
    EXPECT_FALSE((*connection)->Ended());
    char bytes[3];
    EXPECT_EQ(read(peer.fd(), bytes, sizeof bytes), 3);
  }
  WaitFor([&] { return (*connection)->Ended(); });
  EXPECT_FALSE((*connection)->Unread());
  EXPECT_EQ((*connection)->Write("two", 3), 3);  // the system takes it; nobody reads it
  WaitFor([&] { return (*connection)->Write("three", 5) < 0; });
  EXPECT_TRUE((*connection)->Unread());
}

}  // namespace
}  // namespace penstock
