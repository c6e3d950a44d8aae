#include "server/tenant_counts.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(TenantCounts, CountsTogetherWhoIsNotNamedOrOneTooMany) {
  Catalogue catalogue("1");
  ServerConfig config;
  for (int i = 0; i < 1200; ++i) config.tenants.emplace(absl::StrCat("t", 1000 + i), TenantEntry());
  const Live<ServerConfig> live(config);
  TenantCounts counts(&catalogue, &live);
  const auto record = [&](const char* tenant, int code) {
    RequestRecord one;
    one.tenant = tenant;
    one.code = code;
    counts.Record(one);
  };
  record("t1000", 200);
  record("t2199", 200);
  record("stranger", 429);
  record("stranger", 400);
  const std::string text = catalogue.Text();
  EXPECT_THAT(text, HasSubstr("penstock_tenant_requests_total{tenant=\"t1000\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("penstock_tenant_requests_total{tenant=\"other\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("penstock_tenant_rejected_total{tenant=\"other\"} 1\n"));
  EXPECT_THAT(text, Not(HasSubstr("stranger")));
  EXPECT_THAT(text, Not(HasSubstr("t2199")));
}

}  // namespace
}  // namespace penstock
