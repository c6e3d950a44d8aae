// API keys: how they look, who is let in by one, and the file that they are kept in.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "access/access_loop.h"
#include "access/digest.h"
#include "access/key_admin.h"
#include "access/key_source.h"
#include "access/key_store.h"
#include "access/key_text.h"
#include "fakes/temp_dir.h"

namespace penstock {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const std::string kPepper(32, 'p');

struct KeysTest : ::testing::Test {
  KeyAdmin Admin() const { return KeyAdmin(file, kPepper, *RoleTable::Make(ServerConfig().roles)); }
  json Create(const std::string& body) const {
    const auto answer = Admin().Create(body);
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? json::parse(*answer) : json();
  }
  static Caller With(const std::string& key, const char* address = "10.0.0.1") {
    return {key, *IpAddress::Parse(address), false};
  }
  static ServerConfig Config() {
    ServerConfig config;
    config.auth.key_file.pepper_file = "pepper";
    return config;
  }
  TempDir dir;
  const std::string folder = dir.path(), file = folder + "/state/state.db";
  AccessControl control{*MakeAccessRules(Config())};
  std::vector<std::string> lines;
  AccessLog log = [this](bool, std::string_view line) { lines.emplace_back(line); };
};

TEST(KeyText, IsRandomAndChecked) {
  std::set<std::string> seen;
  for (int i = 0; i < 200; ++i) {
    const std::string text = MakeKeyText();
    EXPECT_EQ(text.size(), 62);
    const auto key = KeyText::Parse(text);
    ASSERT_TRUE(key) << text;
    EXPECT_EQ(key->id.size(), 8);
    EXPECT_EQ(key->secret.size(), 43);
    EXPECT_TRUE(seen.insert(std::string(key->secret)).second);
    std::string typo = text;
    typo[20] = typo[20] == 'a' ? 'b' : 'a';
    EXPECT_FALSE(KeyText::Parse(typo));
  }
  for (const char* bad : {"", "pst_", "sk-abc"}) EXPECT_FALSE(KeyText::Parse(bad));
  EXPECT_FALSE(KeyText::Parse(MakeKeyText() + "0"));
}

TEST(Digests, AreThoseOfTheStandards) {
  // FIPS 180-2's "abc", RFC 4231's second case.
  EXPECT_EQ(absl::BytesToHexString(Sha256("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(absl::BytesToHexString(HmacSha256("Jefe", "what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_TRUE(EqualSecrets("ab", "ab"));
  EXPECT_FALSE(EqualSecrets("ab", "ac"));
  EXPECT_FALSE(EqualSecrets("ab", "abc"));
}

TEST_F(KeysTest, AdmitTheTenantTheyWereMadeFor) {
  const json made = Create(R"({"tenant":"clinic","roles":["user","scraper"],"note":"ward 7"})");
  KeySource source(file, kPepper, &control, log);
  source.Check();
  const std::string key = made["key"];
  const PrincipalPtr who = *control.Identify(With("Bearer " + key));
  EXPECT_EQ(who->tenant, "clinic");
  EXPECT_EQ(who->key_id, made["id"].get<std::string>());
  EXPECT_EQ(who->proof, Proof::kApiKey);
  EXPECT_TRUE(who->may(Permission::kInfer) && who->may(Permission::kReadMetrics));
  EXPECT_FALSE(who->may(Permission::kKeys));
  std::string other = MakeKeyText();
  EXPECT_FALSE(control.Identify(With(other)).ok());
  EXPECT_FALSE(control.Identify(With("")).ok()) << "nobody is anonymous";
  EXPECT_TRUE(lines.empty());
}

TEST_F(KeysTest, AreKeptAsDigestsOnlyAndForTheOwnerAlone) {
  const std::string key = Create(R"({"tenant":"a"})")["key"];
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), {});
    EXPECT_EQ(bytes.find(key.substr(13)), bytes.npos) << entry.path();
    EXPECT_EQ(entry.status().permissions() & std::filesystem::perms(077),
              std::filesystem::perms::none)
        << entry.path();
  }
  AccessControl peppered(*MakeAccessRules(Config()));
  KeySource other(file, std::string(32, 'q'), &peppered, log);
  other.Check();
  EXPECT_FALSE(peppered.Identify(With(key)).ok()) << "another pepper";
}

TEST_F(KeysTest, EndByTimeRevocationAndAddress) {
  const json made = Create(R"({"tenant":"a","expires_in":"90d","cidrs":["10.0.0.0/8","::1"]})");
  const std::string key = made["key"];
  const auto store = *KeyStore::Open(file);
  const auto records = std::make_shared<const std::vector<KeyRecord>>(*store->List());
  ASSERT_EQ(records->size(), 1);
  const RoleTable roles = *RoleTable::Make(ServerConfig().roles);
  const KeyTable table(records, kPepper, roles);
  const absl::Time end = records->front().expires;
  EXPECT_EQ(end - records->front().created, absl::Hours(24 * 90));
  const IpAddress inside = *IpAddress::Parse("10.1.1.1"), outside = *IpAddress::Parse("11.1.1.1");
  EXPECT_NE(table.Find(key, inside, end - absl::Seconds(1)).principal, nullptr);
  EXPECT_NE(table.Find(key, *IpAddress::Parse("::1"), absl::Now()).principal, nullptr);
  EXPECT_EQ(table.Find(key, inside, end).refusal, Refusal::kExpired);
  EXPECT_EQ(table.Find(key, outside, absl::Now()).refusal, Refusal::kAddress);
  EXPECT_EQ(table.Find(key, outside, absl::Now()).principal, nullptr);
  ASSERT_TRUE(Admin().Revoke(made["id"]).ok());
  const KeyTable later(std::make_shared<const std::vector<KeyRecord>>(*store->List()), kPepper,
                       roles);
  EXPECT_EQ(later.Find(key, inside, absl::Now()).refusal, Refusal::kRevoked);
  EXPECT_EQ(Admin().Revoke("nothing1").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(KeysTest, RotateWithTwoValidAtOnce) {
  const json old = Create(R"({"tenant":"a","roles":["scraper"],"cidrs":["10.0.0.0/8"]})");
  const auto answer = Admin().Rotate(json{{"id", old["id"]}, {"overlap", "1h"}}.dump());
  ASSERT_TRUE(answer.ok()) << answer.status();
  const json fresh = json::parse(*answer);
  KeySource source(file, kPepper, &control, log);
  source.Check();
  for (const json& key : {old, fresh}) {
    const auto who = control.Identify(With(key["key"]));
    ASSERT_TRUE(who.ok());
    EXPECT_EQ((*who)->tenant, "a");
    EXPECT_EQ((*who)->owner, "tenant a");
    EXPECT_TRUE((*who)->may(Permission::kReadMetrics));
    EXPECT_FALSE(control.Identify(With(key["key"], "11.0.0.1")).ok());
  }
  const json now =
      json::parse(*Admin().Rotate(json{{"id", fresh["id"]}, {"overlap", "0s"}}.dump()));
  source.Check();
  EXPECT_FALSE(control.Identify(With(fresh["key"])).ok());
  EXPECT_TRUE(control.Identify(With(now["key"])).ok());
  EXPECT_FALSE(Admin().Rotate(json{{"id", fresh["id"]}}.dump()).ok()) << "it has ended";
}

TEST_F(KeysTest, BreakGlassForAnHourAndAFewAtATime) {
  const auto make = [&] { return Admin().BreakGlass(R"({"reason":"the issuer is down"})"); };
  const json first = json::parse(*make());
  KeySource source(file, kPepper, &control, log);
  source.Check();
  const PrincipalPtr who = *control.Identify(With(first["key"]));
  EXPECT_EQ(who->permissions, Permissions::All());
  EXPECT_EQ(who->tenant, kBreakGlassTenant);
  const std::vector<KeyRecord> records = *source.records();
  ASSERT_EQ(records.size(), 1);
  EXPECT_EQ(records[0].note, "the issuer is down");
  EXPECT_EQ(records[0].expires - records[0].created, absl::Hours(1));
  EXPECT_EQ(CountBreakGlassKeys(records, absl::Now()), 1);
  EXPECT_EQ(CountBreakGlassKeys(records, records[0].expires), 0);
  const std::string rotate = R"({"id":")" + first["id"].get<std::string>() + R"("})";
  EXPECT_EQ(Admin().Rotate(rotate).status().code(), absl::StatusCode::kFailedPrecondition)
      << "an hour is an hour";
  for (int i = 1; i < 4; ++i) EXPECT_TRUE(make().ok());
  EXPECT_EQ(make().status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(Admin().Revoke(first["id"]).ok());
  EXPECT_TRUE(make().ok());
  for (const std::string& bad :
       {std::string("{}"), std::string(R"({"reason":" "})"), std::string(R"({"reason":"a\nb"})"),
        R"({"reason":")" + std::string(257, 'a') + R"("})"})
    EXPECT_THAT(std::string(Admin().BreakGlass(bad).status().message()), HasSubstr("reason: "));
  const KeyAdmin without(file, kPepper, *RoleTable::Make({{"user", {"infer"}}}));
  EXPECT_THAT(std::string(without.BreakGlass(R"({"reason":"a"})").status().message()),
              HasSubstr("no role admin"));
}

TEST_F(KeysTest, AreSeenByARunningServer) {
  KeySource source(file, kPepper, &control, log);
  source.Check();
  const json made = Create(R"({"tenant":"a"})");
  EXPECT_FALSE(control.Identify(With(made["key"])).ok());
  source.Check();
  EXPECT_TRUE(control.Identify(With(made["key"])).ok());
  ASSERT_TRUE(Admin().Revoke(made["id"]).ok());
  source.Check();
  EXPECT_FALSE(control.Identify(With(made["key"])).ok());
}

TEST_F(KeysTest, FollowTheRolesOfANewConfiguration) {
  const std::string key = Create(R"({"tenant":"a"})")["key"];
  KeySource source(file, kPepper, &control, log);
  source.Check();
  ServerConfig config = Config();
  config.roles = {{"user", {"metrics.read"}}};
  control.SetRules(*MakeAccessRules(config));
  const PrincipalPtr who = *control.Identify(With(key));
  EXPECT_FALSE(who->may(Permission::kInfer));
  EXPECT_TRUE(who->may(Permission::kReadMetrics));
}

TEST_F(KeysTest, StayAsTheyWereWhereTheFileIsDamagedOrGone) {
  const std::string key = Create(R"({"tenant":"a"})")["key"];
  KeySource source(file, kPepper, &control, log);
  source.Check();
  for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(file + end);
  std::ofstream(file) << std::string(8192, 'x');
  for (int i = 0; i < 3; ++i) source.Check();
  EXPECT_TRUE(control.Identify(With(key)).ok());
  ASSERT_EQ(lines.size(), 1) << "said once";
  EXPECT_THAT(lines[0], HasSubstr("state.db: file is not a database"));
  EXPECT_EQ(Admin().List().status().code(), absl::StatusCode::kDataLoss);
  // Whoever puts a sound file in its place is heard.
  std::filesystem::remove(file);
  const std::string next = Create(R"({"tenant":"b"})")["key"];
  source.Check();
  EXPECT_FALSE(control.Identify(With(key)).ok());
  EXPECT_TRUE(control.Identify(With(next)).ok());
  EXPECT_EQ(lines.size(), 2);
}

TEST_F(KeysTest, AdmitNobodyWhereTheFileWasNeverRead) {
  const std::string key = Create(R"({"tenant":"a"})")["key"];
  for (const char* end : {"-wal", "-shm"}) std::filesystem::remove(file + end);
  std::filesystem::resize_file(file, 6000);
  KeySource source(file, kPepper, &control, log);
  source.Check();
  EXPECT_FALSE(control.Identify(With(key)).ok());
  EXPECT_EQ(lines.size(), 1);
}

TEST_F(KeysTest, AreReadWhereNobodyMayWrite) {
  const std::string key = Create(R"({"tenant":"a"})")["key"];
  const std::string state = folder + "/state";
  // As somebody who may read it alone; root may do everything.
  const auto open_up = [](const std::string& path, mode_t mode) { chmod(path.c_str(), mode); };
  open_up(folder, 0755);
  open_up(state, 0555);
  open_up(file, 0444);
  if (geteuid() != 0) GTEST_SKIP() << "needs to become another user";
  ASSERT_EQ(seteuid(65534), 0);
  KeySource source(file, kPepper, &control, log);
  source.Check();
  const auto created = Admin().Create(R"({"tenant":"a"})");
  const int back = seteuid(0);
  ASSERT_EQ(back, 0);
  EXPECT_TRUE(control.Identify(With(key)).ok()) << (lines.empty() ? "" : lines[0]);
  EXPECT_EQ(created.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(created.status().message()), HasSubstr("readonly"));
}

TEST_F(KeysTest, AreLookedUpWhileTheyChange) {
  const std::string key = Create(R"({"tenant":"a"})")["key"];
  std::atomic<bool> stop{false};
  std::atomic<int> num_admitted{0}, num_refused{0};
  std::vector<std::thread> callers;
  {
    AccessLoop loop;
    KeySource source(file, kPepper, &control, log);
    loop.Add([&] { source.Check(); });
    loop.Start();
    for (int i = 0; i < 2; ++i) {
      callers.emplace_back([&] {
        while (!stop) ++(control.Identify(With(key)).ok() ? num_admitted : num_refused);
      });
    }
    while (num_admitted == 0 && num_refused == 0) std::this_thread::yield();
    ServerConfig config = Config();
    for (int i = 0; i < 20; ++i) {
      const json made = Create(R"({"tenant":"b"})");
      loop.Wake();
      config.roles["extra"] = {i % 2 == 0 ? "infer" : "keys"};
      control.SetRules(*MakeAccessRules(config));
      const absl::Time end = absl::Now() + absl::Seconds(10);
      while (!control.Identify(With(made["key"])).ok() && absl::Now() < end)
        std::this_thread::yield();
      EXPECT_TRUE(control.Identify(With(made["key"])).ok());
    }
  }
  stop = true;
  for (std::thread& caller : callers) caller.join();
  EXPECT_GT(num_admitted, 0);
  EXPECT_EQ(num_refused, 0) << "a key that does not change is never refused";
}

TEST_F(KeysTest, SayWhatIsWrongWithARequest) {
  const auto refused = [&](const char* body, const char* why) {
    const auto answer = Admin().Create(body);
    EXPECT_EQ(answer.status().code(), absl::StatusCode::kInvalidArgument) << body;
    EXPECT_THAT(std::string(answer.status().message()), HasSubstr(why)) << body;
  };
  refused("", "JSON object");
  refused("[]", "JSON object");
  refused("{}", "tenant");
  refused(R"({"tenant":7})", "tenant: expected a string");
  refused(R"({"tenant":"a b"})", "tenant: expected a name");
  refused(R"({"tenant":"break-glass"})", "tenant: keys of break-glass");
  refused(R"({"tenant":"a","role":["user"]})", "role: unknown field");
  refused(R"({"tenant":"a","roles":["king"]})", "there is no role king");
  refused(R"({"tenant":"a","roles":"user"})", "roles: expected a list");
  refused(R"({"tenant":"a","cidrs":["10.0.0.1/8"]})", "cidrs: expected addresses");
  refused(R"({"tenant":"a","expires_in":"soon"})", "expires_in: expected a time");
  refused(R"({"tenant":"a","expires_in":"-3h"})", "expires_in: expected a time");
  EXPECT_FALSE(std::filesystem::exists(file)) << "nothing was made";
}

}  // namespace
}  // namespace penstock
