// Who is who, and who may what.
#include "access/access_control.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <concepts>

namespace penstock {
namespace {

using ::testing::HasSubstr;

constexpr RouteAccess kInferOnly = RouteAccess::Needs(Permission::kInfer);

// A route without its access does not compile.
static_assert(!std::default_initializable<RouteAccess>);

ServerConfig WithKeys(std::vector<std::string> keys) {
  ServerConfig config;
  config.auth.api_keys = std::move(keys);
  return config;
}

Caller From(std::string_view address, std::string_view credential) {
  return {credential, *IpAddress::Parse(address), IpAddress::Parse(address)->loopback()};
}

TEST(AccessControl, TakesAKeyBareOrAsBearer) {
  const AccessControl control(*MakeAccessRules(WithKeys({"one", "two"})));
  for (const char* good : {"one", "two", "Bearer two", "bearer  two"}) {
    const AccessControl::Found found = control.Identify(From("10.0.0.1", good));
    ASSERT_TRUE(found.ok()) << good;
    EXPECT_EQ((*found)->tenant, "default");
    EXPECT_EQ((*found)->proof, Proof::kSharedKey);
    EXPECT_TRUE((*found)->may(Permission::kInfer));
    EXPECT_FALSE((*found)->may(Permission::kKeys));
  }
  for (const char* bad : {"", "on", "onee", "Bearer", "Bearer ", "one two", "oneone"}) {
    EXPECT_EQ(control.Identify(From("127.0.0.1", bad)).status().code(),
              absl::StatusCode::kUnauthenticated)
        << bad;
  }
}

TEST(AccessControl, TellsSharedKeysApartWithoutNamingThem) {
  const AccessControl control(*MakeAccessRules(WithKeys({"one", "two"})));
  const PrincipalPtr one = *control.Identify(From("10.0.0.1", "one"));
  const PrincipalPtr two = *control.Identify(From("10.0.0.1", "two"));
  EXPECT_NE(one->key_id, two->key_id);
  EXPECT_NE(one->owner, two->owner);
  EXPECT_EQ(one->key_id.find("one"), std::string::npos);
}

TEST(AccessControl, ARefusedCertificateIsMadeGoodByNothing) {
  for (const ServerConfig& config : {WithKeys({"one"}), ServerConfig()}) {
    const AccessControl control(*MakeAccessRules(config));
    Caller caller = From("10.0.0.1", "one");
    EXPECT_TRUE(control.Identify(caller).ok());
    caller.certificate_refused = true;
    const absl::Status status = control.Identify(caller).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated);
    EXPECT_THAT(std::string(status.message()), HasSubstr("certificate"));
  }
}

TEST(AccessControl, WithoutKeysEverybodyIsOneTenant) {
  const AccessControl control(*MakeAccessRules({}));
  const PrincipalPtr who = *control.Identify(From("10.0.0.1", "Bearer anything"));
  EXPECT_EQ(who->tenant, "anonymous");
  EXPECT_TRUE(who->may(Permission::kInfer));
  EXPECT_FALSE(who->may(Permission::kConfig));
}

TEST(AccessControl, OpensRoutesToThisMachineOrByName) {
  ServerConfig config = WithKeys({"one"});
  config.server.open_routes = {"/metrics/lb"};
  const AccessControl control(*MakeAccessRules(config));
  constexpr RouteAccess kMetrics = RouteAccess::NeedsUnlessLocal(Permission::kReadMetrics);
  const auto code = [&](const Caller& caller, RouteAccess access, std::string_view path) {
    return control.Admit(caller, access, path).status().code();
  };
  EXPECT_EQ(code(From("127.0.0.1", ""), kMetrics, "/metrics"), absl::StatusCode::kOk);
  EXPECT_EQ(code(From("::1", ""), kMetrics, "/metrics"), absl::StatusCode::kOk);
  EXPECT_EQ(code(From("10.0.0.1", ""), kMetrics, "/metrics"), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(code(From("10.0.0.1", "one"), kMetrics, "/metrics"), absl::StatusCode::kOk);
  EXPECT_EQ(code(From("10.0.0.1", ""), kMetrics, "/metrics/lb"), absl::StatusCode::kOk);
  EXPECT_EQ(code(From("127.0.0.1", ""), kInferOnly, "/v1/models"),
            absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(code(From("10.0.0.1", ""), RouteAccess::Open(), "/health"), absl::StatusCode::kOk);
  EXPECT_EQ(code(From("10.0.0.1", "one"), RouteAccess::Needs(Permission::kKeys), "/admin/v1/keys"),
            absl::StatusCode::kPermissionDenied);
}

TEST(AccessControl, CountsWhomItTurnsAway) {
  AccessControl control(*MakeAccessRules(WithKeys({"one"})));
  std::vector<std::string> reasons;
  control.set_on_refusal(
      [&](const RefusedCall& call) { reasons.emplace_back(NameOf(call.refusal)); });
  (void)control.Identify(From("10.0.0.1", ""));
  (void)control.Identify(From("10.0.0.1", "two"));
  (void)control.Admit(From("10.0.0.1", "one"), RouteAccess::Needs(Permission::kConfig), "/");
  EXPECT_EQ(reasons, (std::vector<std::string>{"missing", "unknown", "permission"}));
}

TEST(AccessControl, FollowsNewRulesFromTheNextCallOn) {
  AccessControl control(*MakeAccessRules(WithKeys({"one"})));
  const PrincipalPtr before = *control.Identify(From("10.0.0.1", "one"));
  control.SetRules(*MakeAccessRules(WithKeys({"two"})));
  EXPECT_FALSE(control.Identify(From("10.0.0.1", "one")).ok());
  EXPECT_TRUE(control.Identify(From("10.0.0.1", "two")).ok());
  EXPECT_EQ(before->tenant, "default");
}

TEST(AccessControl, KnowsCertificatesByTheLongestPatternOfTheirNames) {
  ServerConfig config;
  config.auth.mtls = {{"spiffe://corp/*", {"corp", {"scraper"}}},
                      {"spiffe://corp/ns/batch/*", {"batch", {"user"}}},
                      {"db?.corp", {"literal", {"user"}}},
                      {"*.corp", {"dns", {"user", "scraper"}}}};
  const AccessControl control(*MakeAccessRules(config));
  const auto who = [&](std::vector<std::string> names, std::string_view credential = "") {
    const Caller caller = {credential, *IpAddress::Parse("10.0.0.1"), false, false, &names};
    const AccessControl::Found found = control.Identify(caller);
    return found.ok() ? (*found)->tenant : std::string(found.status().message());
  };
  EXPECT_EQ(who({"spiffe://corp/ns/batch/sa/x"}), "batch");
  EXPECT_EQ(who({"spiffe://corp/ns/other"}), "corp");
  EXPECT_EQ(who({"web.corp", "spiffe://corp/ns/batch/a"}), "batch");
  EXPECT_EQ(who({"a.b.corp"}), "dns");
  EXPECT_EQ(who({"db1.corp"}), "dns") << "only * stands for others";
  for (const char* name : {"corp", "web.corp.evil", "xspiffe://corp/a", "spiffe://corp", ""})
    EXPECT_THAT(who({name}), HasSubstr("not known")) << name;
  EXPECT_THAT(who({}), HasSubstr("an API key is needed"));
  EXPECT_THAT(who({"web.corp"}, "Bearer wrong"), HasSubstr("not known")) << "what is shown counts";
  const std::vector<std::string> one = {"web.corp"}, two = {"app.corp"};
  const Caller first = {"", {}, false, false, &one}, second = {"", {}, false, false, &two};
  EXPECT_NE((*control.Identify(first))->owner, (*control.Identify(second))->owner);
  config.auth.mtls = {{"a", {"t", {"king"}}}};
  EXPECT_THAT(std::string(MakeAccessRules(config).status().message()),
              HasSubstr("auth.mtls.a.roles: there is no role king"));
  config.auth.mtls = {{"a", {"", {"user"}}}};
  EXPECT_FALSE(MakeAccessRules(config).ok());
}

TEST(AccessControl, TheAdminSocketIsTheRightToDoEverything) {
  const AccessControl control(*MakeAccessRules(WithKeys({"one"})));
  Caller caller = From("127.0.0.1", "");
  caller.by_socket = true;
  const PrincipalPtr who = *control.Identify(caller);
  EXPECT_EQ(who->proof, Proof::kSocket);
  EXPECT_EQ(who->permissions, Permissions::All());
}

TEST(RoleTable, AddsUpRolesAndKnowsPermissions) {
  const RoleTable table = *RoleTable::Make({{"a", {"infer"}}, {"b", {"keys"}}, {"all", {"*"}}});
  EXPECT_EQ(table.Of({"a", "b"}), (Permissions{Permission::kInfer, Permission::kKeys}));
  EXPECT_EQ(table.Of({"none"}), Permissions());
  EXPECT_EQ(table.Of({"all"}), Permissions::All());
  EXPECT_THAT(std::string(RoleTable::Make({{"a", {"fly"}}}).status().message()),
              HasSubstr("roles.a: 'fly' is no permission"));
  for (const std::string_view name : PermissionNames())
    EXPECT_EQ(NameOf(*FindPermission(name)), name);
}

TEST(IpRange, ContainsWhatItsPrefixSays) {
  const auto in = [](std::string_view range, std::string_view address) {
    return IpRange::Parse(range)->Contains(*IpAddress::Parse(address));
  };
  EXPECT_TRUE(in("10.0.0.0/8", "10.255.0.1"));
  EXPECT_FALSE(in("10.0.0.0/8", "11.0.0.1"));
  EXPECT_TRUE(in("10.1.2.3", "10.1.2.3"));
  EXPECT_FALSE(in("10.1.2.3", "10.1.2.2"));
  EXPECT_TRUE(in("192.168.0.128/25", "192.168.0.200"));
  EXPECT_FALSE(in("192.168.0.128/25", "192.168.0.100"));
  EXPECT_TRUE(in("0.0.0.0/0", "1.2.3.4"));
  EXPECT_FALSE(in("0.0.0.0/0", "2001:db8::1"));
  EXPECT_TRUE(in("2001:db8::/33", "2001:db8:7fff::1"));
  EXPECT_FALSE(in("2001:db8::/33", "2001:db8:8000::1"));
  EXPECT_TRUE(in("10.0.0.0/8", "::ffff:10.1.1.1"));
  for (const char* bad : {"", "10.0.0.0/33", "10.0.0.1/8", "10.0.0/8", "::/129", "a", "10.0.0.0/-1",
                          "10.0.0.0/", "2001:db8::1/32"}) {
    EXPECT_FALSE(IpRange::Parse(bad).ok()) << bad;
  }
}

TEST(IpAddress, ReadsPeersAsGrpcWritesThem) {
  EXPECT_EQ(IpAddress::ParsePeer("ipv4:10.0.0.1:80"), IpAddress::Parse("10.0.0.1"));
  EXPECT_EQ(IpAddress::ParsePeer("ipv6:%5B::1%5D:80"), IpAddress::Parse("::1"));
  EXPECT_EQ(IpAddress::ParsePeer("ipv6:[fe80::1%25eth0]:80"), IpAddress::Parse("fe80::1"));
  for (const char* bad : {"", "unix:/x", "ipv4:", "ipv6:", "ipv4:80", "ipv6:x:1"})
    EXPECT_FALSE(IpAddress::ParsePeer(bad)) << bad;
}

}  // namespace
}  // namespace penstock
