// The audit log's chain: what is recorded is there, whole, over restarts, rotation and a disk that takes nothing.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "fakes/temp_dir.h"
#include "ledger/audit_chain.h"
#include "ledger/audit_loop.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

std::string MakeKey(const TempDir& dir, const std::string& name, const char* kind = "ED25519") {
  EVP_PKEY* key = EVP_PKEY_Q_keygen(nullptr, nullptr, kind);
  const std::string path = dir.path() + "/" + name;
  FILE* file = std::fopen(path.c_str(), "w");
  PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
  std::fclose(file);
  EVP_PKEY_free(key);
  return path;
}

class AuditTest : public testing::Test {
 protected:
  AuditTest() : key_(*AuditKey::Read(MakeKey(keys_, "a"))) {}

  std::unique_ptr<AuditLoop> Start(int64_t rotate = 64 << 20) {
    AuditLoop::Options options;
    options.dir = log_.path() + "/audit";
    options.key = key_;
    options.rotate_bytes = rotate;
    options.ttl = [this] { return ttl_; };
    options.clock = clock_;
    options.log = [this](bool failed, std::string_view line) {
      if (failed) said_ = std::string(line);
    };
    return AuditLoop::Start(std::move(options));
  }
  static void Record(AuditLoop& loop, int64_t i) {
    loop.Record({.time = {}, .what = "request", .fields = {{"tenant", "a"}, {"i", i}}});
  }
  AuditReport Verify() { return VerifyAudit(log_.path() + "/audit", key_.get()); }
  std::string All() {
    std::string text;
    for (const std::string& path : AuditFiles(log_.path() + "/audit")) {
      std::ifstream in(path);
      text.append(std::istreambuf_iterator<char>(in), {});
    }
    return text;
  }

  TempDir keys_, log_;
  std::shared_ptr<const AuditKey> key_;
  absl::Duration ttl_;
  const Clock* clock_ = &SystemClock::Get();
  std::string said_;
};

TEST_F(AuditTest, EveryLineOfManyThreadsIsThereInAWholeChain) {
  {
    const auto loop = Start(/*rotate=*/64 << 10);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 600; ++i) Record(*loop, i);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  const AuditReport report = Verify();
  EXPECT_TRUE(report.ok()) << report.Json();
  EXPECT_EQ(report.last, 2400 + report.checkpoints);
  EXPECT_EQ(report.checkpoints, 3);
  EXPECT_EQ(report.signed_through, report.last - 1);
  EXPECT_GT(AuditFiles(log_.path() + "/audit").size(), 1);
  // The digests, as anybody can compute them.
  std::string before = NoDigest();
  std::istringstream lines(All());
  for (std::string line; std::getline(lines, line); before = LineDigest(line))
    EXPECT_EQ(nlohmann::json::parse(line)["prev"], before);
}

TEST_F(AuditTest, TextOfClientsCannotForgeALine) {
  {
    const auto loop = Start();
    loop->Record(
        {.time = {}, .what = "denied", .fields = {{"path", "\"}\n{\"n\":1,\x01\xff\xc3\xa9\\"}}});
  }
  EXPECT_TRUE(Verify().ok());
  const std::string first = All().substr(0, All().find('\n'));
  EXPECT_EQ(nlohmann::json::parse(first)["n"], 1);
  EXPECT_THAT(first, HasSubstr("\\u000a"));
}

TEST_F(AuditTest, ALogThatIsGoneIsMissed) {
  { Record(*Start(), 1); }
  for (const std::string& path : AuditFiles(log_.path() + "/audit")) std::filesystem::remove(path);
  EXPECT_FALSE(Verify().ok());
  { Record(*Start(), 2); }
  EXPECT_THAT(said_, HasSubstr("gone"));
  EXPECT_EQ(Verify().first, 3);  // numbers show it for ever
}

TEST_F(AuditTest, OldFilesGoAndAreNotMissed) {
  {
    const auto loop = Start(/*rotate=*/64 << 10);
    for (int i = 0; i < 2500; ++i) Record(*loop, i);
  }
  const std::vector<std::string> files = AuditFiles(log_.path() + "/audit");
  ASSERT_GT(files.size(), 2);
  std::filesystem::last_write_time(
      files[0], std::filesystem::file_time_type::clock::now() - std::chrono::hours(48));
  ttl_ = absl::Hours(24);
  { Record(*Start(), 1); }
  EXPECT_FALSE(std::filesystem::exists(files[0]));
  EXPECT_TRUE(std::filesystem::exists(files[1]));
  EXPECT_TRUE(Verify().ok()) << Verify().Json();
  EXPECT_GT(Verify().first, 1);
  std::filesystem::remove(files[1]);
  EXPECT_FALSE(Verify().ok());
}

TEST_F(AuditTest, ATimeOfDayThatIsSetAheadAgesNothing) {
  {
    const auto loop = Start(/*rotate=*/64 << 10);
    for (int i = 0; i < 1500; ++i) Record(*loop, i);
  }
  const std::vector<std::string> files = AuditFiles(log_.path() + "/audit");
  ASSERT_GT(files.size(), 1);
  const auto before = std::filesystem::file_time_type::clock::now() - std::chrono::hours(48);
  for (const std::string& file : files) std::filesystem::last_write_time(file, before);
  FakeClock clock;  // two days behind the time of day, which somebody has changed
  clock.Advance(absl::Now() - absl::Hours(48) - clock.Now());
  clock_ = &clock;
  ttl_ = absl::Hours(24);
  { Record(*Start(), 1); }
  for (const std::string& file : files) EXPECT_TRUE(std::filesystem::exists(file)) << file;
}

TEST_F(AuditTest, AFolderThatCannotBeWrittenIsNoErrorOfTheCaller) {
  std::ofstream(log_.path() + "/audit") << "a file in its place";
  const auto loop = Start();
  EXPECT_FALSE(loop->healthy());
  for (int i = 0; i < 100; ++i) Record(*loop, i);
  std::filesystem::remove(log_.path() + "/audit");
  const absl::Time end = absl::Now() + absl::Seconds(60);
  while (!loop->healthy() && absl::Now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(loop->healthy());
  while (Verify().last < 100 && absl::Now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_GE(Verify().last, 100);  // nothing of it is lost
}

TEST_F(AuditTest, AFloodOfRefusalsIsCountedNotWritten) {
  {
    const auto loop = Start();
    for (int i = 0; i < 5000; ++i)
      loop->Record({.time = absl::FromUnixSeconds(1000),
                    .what = "denied",
                    .fields = {{"reason", "unknown"}}});
  }
  EXPECT_LT(Verify().last, 300);
  int64_t refusals = 0;
  std::istringstream lines(All());
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    if (json["what"] == "denied") refusals += json.value("more", int64_t{1});
  }
  EXPECT_EQ(refusals, 5000);
}

TEST_F(AuditTest, OnlyEd25519KeysSign) {
  EXPECT_THAT(AuditKey::Read(MakeKey(keys_, "x", "X25519")).status().message(),
              HasSubstr("Ed25519"));
  EXPECT_FALSE(AuditKey::Read(keys_.path() + "/none").ok());
  EXPECT_FALSE(AuditKey::Read(keys_.Write("text", "no key")).ok());
  const std::string signature = key_->Sign("text");
  EXPECT_TRUE(key_->Verify("text", signature));
  EXPECT_FALSE(key_->Verify("texT", signature));
  EXPECT_FALSE(key_->Verify("text", ""));
}

}  // namespace
}  // namespace penstock
