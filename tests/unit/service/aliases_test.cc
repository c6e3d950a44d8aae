// Aliases that operators set: the pointers and the history in the state file, and what a registry
// makes of them.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "fakes/fake_engine.h"
#include "fakes/temp_dir.h"
#include "metrics/catalogue.h"
#include "service/alias_book.h"
#include "service/alias_store.h"
#include "service/call_error.h"

namespace penstock {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

absl::Status AnyTarget(const std::string&) { return absl::OkStatus(); }

AliasWish Wish(const std::string& alias, std::optional<std::string> to,
               std::optional<std::string> if_match = std::nullopt) {
  return {alias, std::move(to), std::move(if_match), "ann", "why"};
}

std::shared_ptr<ServedModel> ModelOf(FakeEngine& engine, const std::string& name,
                                     std::vector<std::string> aliases = {}) {
  auto model = std::make_shared<ServedModel>();
  model->name = name;
  model->aliases = std::move(aliases);
  model->engine = &engine;
  return model;
}

struct AliasesTest : ::testing::Test {
  std::unique_ptr<AliasStore> Store() const {
    auto store = AliasStore::Open(file);
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }
  std::unique_ptr<AliasBook> Book() {
    auto book = std::make_unique<AliasBook>(
        file, &registry, catalogue.MakeAliasesReadable(),
        [this](bool, std::string_view line) { lines.emplace_back(line); },
        [this](const std::string& alias, const std::string& from, const std::string& to) {
          changes.push_back(alias + ":" + from + ">" + to);
        });
    book->Check();
    return book;
  }
  std::string Means(const std::string& name) const {
    const auto model = registry.Find(name);
    const auto served = registry.FindToServe(name);
    EXPECT_TRUE(served.ok() && (*served == nullptr) == (model == nullptr)) << name;
    return model == nullptr ? "" : model->name;
  }
  void Damage() const {
    for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(file + end);
    std::ofstream(file) << std::string(8192, 'x');
  }
  /// What SQLite says to a statement on the file; empty: it did it.
  std::string Say(const char* sql) const {
    sqlite3* db = nullptr;
    sqlite3_open(file.c_str(), &db);
    char* said = nullptr;
    sqlite3_exec(db, sql, nullptr, nullptr, &said);
    std::string out = said == nullptr ? "" : said;
    sqlite3_free(said);
    sqlite3_close(db);
    return out;
  }

  TempDir dir;
  const std::string file = dir.path() + "/state/state.db";
  FakeEngine engine;
  AdapterRegistry registry{{ModelOf(engine, "v1"), ModelOf(engine, "v2", {"stable"})}, {}};
  Catalogue catalogue{"1"};
  std::vector<std::string> lines, changes;
};

TEST_F(AliasesTest, ArePointersWithAHistory) {
  const auto store = Store();
  EXPECT_EQ(*store->Last(), 0);
  ASSERT_TRUE(store->Change(Wish("a", "v1", ""), AnyTarget).ok());
  ASSERT_TRUE(store->Change(Wish("b", "v1"), AnyTarget).ok());
  const auto second = store->Change(Wish("a", "v2", "v1"), AnyTarget);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->from, "v1");
  EXPECT_EQ(second->number, 3);
  EXPECT_EQ(store->Change(Wish("a", "v2"), AnyTarget)->number, 0) << "nothing changes";
  EXPECT_EQ(*store->Last(), 3);
  const auto gone = store->Change(Wish("b", ""), AnyTarget);
  EXPECT_TRUE(gone.ok() && gone->to.empty());
  const auto list = *Store()->List();
  ASSERT_THAT(list, SizeIs(1));
  EXPECT_EQ(list[0].alias + list[0].to + list[0].who, "av2ann");
  EXPECT_EQ(list[0].since,
            second->when - absl::Nanoseconds(absl::ToUnixNanos(second->when) % 1000000));
  const auto history = *Store()->History("a", 100);
  ASSERT_THAT(history, SizeIs(2));
  EXPECT_EQ(history[0].from + ">" + history[0].to, ">v1");
  EXPECT_EQ(history[1].from + ">" + history[1].to + " " + history[1].reason, "v1>v2 why");
  EXPECT_THAT(*store->History("", 100), SizeIs(4));
  EXPECT_EQ(store->History("", 2)->front().number, 3) << "the last ones";
}

TEST_F(AliasesTest, ChangeOnlyWhatIsAsItWasSeen) {
  const auto store = Store();
  const auto code = [&](const AliasWish& wish) {
    return store->Change(wish, AnyTarget).status().code();
  };
  EXPECT_EQ(code(Wish("a", "v1", "v2")), absl::StatusCode::kAborted);
  EXPECT_EQ(code(Wish("a", "", "v1")), absl::StatusCode::kAborted);
  EXPECT_EQ(code(Wish("a", "v1", "")), absl::StatusCode::kOk);
  const auto stale = store->Change(Wish("a", "v2", ""), AnyTarget).status();
  EXPECT_EQ(FieldOf(stale), "if_match");
  EXPECT_THAT(std::string(stale.message()),
              HasSubstr("expected nothing, the alias \"a\" means \"v1\""));
  EXPECT_EQ(code(Wish("a", std::nullopt, "v2")), absl::StatusCode::kAborted);
  EXPECT_EQ(code(Wish("b", "")), absl::StatusCode::kNotFound);
  const auto refused =
      store->Change(Wish("a", "v3"), [](const std::string& to) { return absl::NotFoundError(to); });
  EXPECT_EQ(refused.status().message(), "v3");
  EXPECT_EQ(*store->Last(), 1) << "what is refused leaves nothing";
}

TEST_F(AliasesTest, GoBackToWhatTheyMeantBefore) {
  const auto store = Store();
  const auto back = [&] { return store->Change(Wish("a", std::nullopt), AnyTarget); };
  EXPECT_EQ(back().status().code(), absl::StatusCode::kFailedPrecondition);
  for (const char* to : {"v1", "v2", "v3"})
    ASSERT_TRUE(store->Change(Wish("a", to), AnyTarget).ok());
  EXPECT_EQ(back()->to, "v2");
  EXPECT_EQ(back()->to, "v3") << "twice is where one began";
  ASSERT_TRUE(store->Change(Wish("a", ""), AnyTarget).ok());
  EXPECT_EQ(back()->to, "v3") << "also one that is gone";
  ASSERT_TRUE(store->Change(Wish("b", "v1"), AnyTarget).ok());
  EXPECT_FALSE(store->Change(Wish("b", std::nullopt), AnyTarget).ok()) << "another's history";
}

TEST_F(AliasesTest, OneOfManyThatSawTheSameWins) {
  constexpr int kThreads = 6, kRounds = 20;
  ASSERT_TRUE(Store()->Change(Wish("a", "0"), AnyTarget).ok());
  for (int round = 0; round < kRounds; ++round) {
    std::atomic<int> won{0}, lost{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        absl::StatusOr<AliasChange> change = absl::UnavailableError("");
        while (change.status().code() == absl::StatusCode::kUnavailable) {  // a slow disk
          const auto store = Store();
          if (store == nullptr) continue;
          change =
              store->Change(Wish("a", std::to_string(round + 1), std::to_string(round)), AnyTarget);
        }
        if (change.ok()) ++won;
        if (change.status().code() == absl::StatusCode::kAborted) ++lost;
      });
    }
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(won, 1);
    ASSERT_EQ(lost, kThreads - 1);
  }
  const auto history = *Store()->History("a", 1000);
  ASSERT_THAT(history, SizeIs(kRounds + 1));
  for (int i = 0; i <= kRounds; ++i) {
    EXPECT_EQ(history[i].to, std::to_string(i));
    EXPECT_EQ(history[i].number, i + 1);
  }
}

TEST_F(AliasesTest, KeepTheirHistoryAsItWasWritten) {
  ASSERT_TRUE(Store()->Change(Wish("a", "v1"), AnyTarget).ok());
  EXPECT_THAT(Say("UPDATE alias_history SET who = 'bob'"), HasSubstr("only added to"));
  EXPECT_THAT(Say("DELETE FROM alias_history"), HasSubstr("only added to"));
  EXPECT_THAT(Say("INSERT OR REPLACE INTO alias_history SELECT number, alias, \"from\", \"to\", "
                  "'bob', \"when\", reason FROM alias_history"),
              HasSubstr("only added to"));
  EXPECT_EQ(Store()->History("a", 9)->front().who, "ann");
  struct stat mode {};
  ASSERT_EQ(stat(file.c_str(), &mode), 0);
  EXPECT_EQ(mode.st_mode & 0777, 0600u);
}

TEST_F(AliasesTest, AreFoundByTheNextRequest) {
  const auto book = Book();
  EXPECT_EQ(Means("live"), "");
  ASSERT_TRUE(book->Change(Wish("live", "v1")).ok());
  EXPECT_EQ(Means("live"), "v1");
  const auto began = registry.Find("live");
  ASSERT_TRUE(book->Change(Wish("live", "stable")).ok()) << "by an alias of the configuration";
  EXPECT_EQ(Means("live"), "v2");
  EXPECT_EQ(began->name, "v1") << "who holds a model keeps it";
  ASSERT_TRUE(book->Change(Wish("fast", "v2")).ok());
  EXPECT_THAT(registry.List()[0]->aliases, IsEmpty());
  EXPECT_THAT(registry.List()[1]->aliases, ElementsAre("stable", "fast", "live"));
  EXPECT_EQ(book->Change(Wish("live", std::nullopt))->to, "v1");
  ASSERT_TRUE(book->Change(Wish("fast", "")).ok());
  EXPECT_THAT(changes,
              ElementsAre("live:>v1", "live:v1>stable", "fast:>v2", "live:stable>v1", "fast:v2>"));
  // Another process on the same file.
  ASSERT_TRUE(Store()->Change(Wish("live", "v2"), AnyTarget).ok());
  EXPECT_EQ(Means("live"), "v1");
  book->Check();
  EXPECT_EQ(Means("live"), "v2");
  EXPECT_EQ(changes.back(), "live:v1>v2");
  // A new start.
  registry.SetPointers({});
  changes.clear();
  EXPECT_THAT(Book()->List(), SizeIs(1));
  EXPECT_EQ(Means("live"), "v2");
  EXPECT_THAT(changes, IsEmpty()) << "what was there is no change";
  EXPECT_THAT(lines, IsEmpty());
}

TEST_F(AliasesTest, SayWhatIsWrongWithAWish) {
  const auto book = Book();
  const auto refused = [&](const AliasWish& wish) { return book->Change(wish).status(); };
  for (const char* bad : {"", "a b", "a,b", "a\n", "x/history", "x/rollback"})
    EXPECT_EQ(FieldOf(refused(Wish(bad, "v1"))), "alias") << bad;
  EXPECT_EQ(FieldOf(refused(Wish(std::string(129, 'a'), "v1"))), "alias");
  EXPECT_EQ(FieldOf(refused(Wish("v2", "v1"))), "alias");
  const absl::Status of_file = refused(Wish("stable", "v1"));
  EXPECT_EQ(of_file.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(of_file.message()), HasSubstr("managed_by_file"));
  const absl::Status unknown = refused(Wish("a", "v9"));
  EXPECT_EQ(unknown.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(FieldOf(unknown), "to");
  AliasWish wordy = Wish("a", "v1");
  wordy.reason = std::string(257, 'x');
  EXPECT_EQ(FieldOf(refused(wordy)), "reason");
  EXPECT_THAT(*book->History(""), IsEmpty());
}

TEST_F(AliasesTest, GiveWayToTheConfiguration) {
  ASSERT_TRUE(Store()->Change(Wish("a", "v1"), AnyTarget).ok());
  ASSERT_TRUE(Store()->Change(Wish("b", "v9"), AnyTarget).ok());
  ASSERT_TRUE(Store()->Change(Wish("v2", "v1"), AnyTarget).ok());
  const auto book = Book();
  EXPECT_EQ(Means("a"), "v1");
  EXPECT_EQ(Means("b"), "");
  EXPECT_EQ(Means("v2"), "v2");
  EXPECT_THAT(lines, ElementsAre(HasSubstr("no model or loaded adapter is called \"v9\""),
                                 HasSubstr("the name is the model v2")));
  registry.SetAliases({{"v2", {"stable", "a"}}});
  EXPECT_EQ(Means("a"), "v2");
  EXPECT_EQ(book->WhyInactive(book->List()[0]),
            "the name is an alias of the model v2 in the configuration");
  for (int i = 0; i < 3; ++i) book->Check();
  EXPECT_THAT(lines, SizeIs(3)) << "said once";
  EXPECT_FALSE(book->Change(Wish("a", "v2")).ok());
  registry.SetAliases({{"v2", {}}});
  EXPECT_EQ(Means("a"), "v1");
  registry.SetAliases({{"v2", {"a"}}});
  EXPECT_TRUE(book->Change(Wish("a", "")).ok()) << "what waits behind another can go";
  EXPECT_TRUE(book->Change(Wish("v2", "")).ok());
  EXPECT_EQ(Means("a"), "v2");
}

TEST_F(AliasesTest, StayAsTheyWereWhereTheFileIsDamagedOrLost) {
  const auto book = Book();
  ASSERT_TRUE(book->Change(Wish("a", "v1")).ok());
  ASSERT_TRUE(book->Change(Wish("a", "v2")).ok());
  const auto stays = [&](const char* why) {
    for (int i = 0; i < 3; ++i) book->Check();
    EXPECT_EQ(Means("a"), "v2");
    EXPECT_EQ(catalogue.MakeAliasesReadable().value(), 0);
    const absl::Status refused = book->Change(Wish("a", "v1")).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(refused.message()), HasSubstr(why));
  };
  Damage();
  stays("state.db: file is not a database");
  EXPECT_THAT(lines, SizeIs(1)) << "said once";
  std::filesystem::remove(file);
  stays("state.db: it has lost changes of aliases");
  EXPECT_THAT(lines, SizeIs(2));
  // A new start takes what there is.
  registry.SetPointers({});
  EXPECT_TRUE(Book()->Change(Wish("a", "v1")).ok());
  EXPECT_EQ(Means("a"), "v1");
  EXPECT_EQ(catalogue.MakeAliasesReadable().value(), 1);
}

TEST_F(AliasesTest, AreOnlyTheConfigurationsWhereTheFileWasNeverRead) {
  ASSERT_TRUE(Store()->Change(Wish("a", "v1"), AnyTarget).ok());
  Damage();
  const auto book = Book();
  EXPECT_EQ(Means("a"), "");
  EXPECT_EQ(Means("stable"), "v2");
  EXPECT_EQ(book->History("a").status().code(), absl::StatusCode::kUnavailable);
  std::filesystem::remove(file);
  book->Check();
  EXPECT_TRUE(book->Change(Wish("a", "v1")).ok()) << "a sound file is taken";
  EXPECT_THAT(lines, SizeIs(2));
}

TEST_F(AliasesTest, AreReadWhereNobodyMayWrite) {
  ASSERT_TRUE(Store()->Change(Wish("a", "v1"), AnyTarget).ok());
  if (geteuid() != 0) GTEST_SKIP() << "needs to become another user";
  chmod(dir.path().c_str(), 0755);
  chmod((dir.path() + "/state").c_str(), 0555);
  chmod(file.c_str(), 0444);
  ASSERT_EQ(seteuid(65534), 0);
  const auto book = Book();
  const absl::Status refused = book->Change(Wish("a", "v2")).status();
  const int back = seteuid(0);
  ASSERT_EQ(back, 0);
  EXPECT_EQ(Means("a"), "v1");
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("readonly"));
}

TEST_F(AliasesTest, ChangeWhileRequestsLookThemUp) {
  const auto book = Book();
  ASSERT_TRUE(book->Change(Wish("a", "v1")).ok());
  std::atomic<bool> done{false};
  std::atomic<int> missed{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      while (!done) {
        const auto found = registry.FindToServe("a");
        missed += !found.ok() || *found == nullptr || registry.List().size() != 2;
      }
    });
  }
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(book->Change(Wish("a", "v2", "v1")).ok());
    EXPECT_TRUE(book->Change(Wish("a", std::nullopt, "v2")).ok());
    book->Check();
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(missed, 0);
  EXPECT_THAT(*book->History("a"), SizeIs(201));
}

}  // namespace
}  // namespace penstock
