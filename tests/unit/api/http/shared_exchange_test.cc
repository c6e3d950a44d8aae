// One request that several clients wait for: who gets what, when, and when the work ends.
#include "api/http/shared_exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "absl/time/clock.h"
#include "fakes/patience.h"

namespace penstock {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

/// A client that takes `room` bytes until it is drained.
class SharingClient final : public HttpExchange {
 public:
  explicit SharingClient(size_t room = size_t{1} << 30) : room_(room) {}
  HttpRequest& request() override { return request_; }
  void Respond(HttpResponse response) override {
    std::lock_guard lock(mutex_);
    answer_ = response.body;
    ended_ = true;
  }
  void StartStream(std::string_view type, const HttpHeaders&) override {
    std::lock_guard lock(mutex_);
    type_ = std::string(type);
  }
  void Write(std::string_view bytes) override {
    std::lock_guard lock(mutex_);
    EXPECT_FALSE(type_.empty());
    EXPECT_FALSE(ended_);
    answer_ += bytes;
    held_ += bytes.size();
  }
  void EndStream(bool close) override {
    std::lock_guard lock(mutex_);
    EXPECT_FALSE(ended_);
    ended_ = true;
    closed_ = close;
  }
  bool started() const override { return !type_.empty(); }
  bool congested() override {
    std::lock_guard lock(mutex_);
    return held_ > room_;
  }
  void Watch(std::function<void(CancelReason)> gone, std::function<void()> drained) override {
    std::lock_guard lock(mutex_);
    gone_ = std::move(gone);
    drained_ = std::move(drained);
  }

  void Drain() {
    std::function<void()> drained;
    {
      std::lock_guard lock(mutex_);
      held_ = 0;
      drained = drained_;
    }
    if (drained) drained();
  }
  void Leave() {
    std::function<void(CancelReason)> gone;
    {
      std::lock_guard lock(mutex_);
      gone.swap(gone_);
      drained_ = nullptr;
    }
    if (gone) gone(CancelReason::kDisconnect);
  }
  std::string answer() const {
    std::lock_guard lock(mutex_);
    return answer_;
  }
  bool ended() const {
    std::lock_guard lock(mutex_);
    return ended_;
  }
  bool closed() const { return closed_; }

 private:
  const size_t room_;
  HttpRequest request_;
  mutable std::mutex mutex_;  // guards from here
  std::string type_, answer_;
  size_t held_ = 0;
  bool ended_ = false, closed_ = false;
  std::function<void(CancelReason)> gone_;
  std::function<void()> drained_;
};

class SharedExchangeTest : public ::testing::Test {
 protected:
  std::shared_ptr<SharedExchange> Begin(std::shared_ptr<HttpExchange> first,
                                        size_t most = 1 << 20) {
    bytes_.most = 8 * most;
    auto shared = std::make_shared<SharedExchange>(
        std::move(first), &bytes_, [this](const SharedExchange*, const HttpResponse* answer) {
          finished_.push_back(answer == nullptr ? "none" : answer->body);
        });
    shared->Begin();
    return shared;
  }
  /// How often the work was told that all clients are gone, and that it may go on.
  void Work(SharedExchange& shared) {
    shared.Watch([this](CancelReason) { ++gone_; }, [this] { ++drained_; });
  }

  SharedBytes bytes_;
  std::vector<std::string> finished_;
  int gone_ = 0, drained_ = 0;
};

TEST_F(SharedExchangeTest, WhoComesLaterGetsTheStreamFromItsStart) {
  const auto first = std::make_shared<SharingClient>(), second = std::make_shared<SharingClient>(),
             third = std::make_shared<SharingClient>();
  const auto shared = Begin(first);
  ASSERT_TRUE(shared->Join(second));  // before it begins
  shared->StartStream("text/event-stream");
  shared->Write("ab");
  ASSERT_TRUE(shared->Join(third));
  EXPECT_EQ(third->answer(), "ab");
  shared->Write("cd");
  shared->EndStream(false);
  for (const auto& client : {first, second, third}) {
    EXPECT_EQ(client->answer(), "abcd");
    EXPECT_TRUE(client->ended());
    EXPECT_FALSE(client->closed());
  }
  EXPECT_THAT(finished_, ::testing::ElementsAre("abcd"));
  EXPECT_FALSE(shared->Join(std::make_shared<SharingClient>()));
}

TEST_F(SharedExchangeTest, TheFastestSetsThePaceAndTheSlowestIsReadToTheEnd) {
  const auto slow = std::make_shared<SharingClient>(3);
  auto fast = std::make_shared<SharingClient>(5);
  auto shared = Begin(slow);
  ASSERT_TRUE(shared->Join(fast));
  Work(*shared);
  shared->StartStream("text/event-stream");
  shared->Write("1234");
  EXPECT_FALSE(shared->congested());  // the fast one has room
  shared->Write("56");
  EXPECT_EQ(slow->answer(), "1234");
  EXPECT_TRUE(shared->congested());
  fast->Drain();
  EXPECT_EQ(drained_, 1);
  EXPECT_FALSE(shared->congested());
  shared->Write("xxxxxx");
  EXPECT_TRUE(shared->congested());
  ASSERT_TRUE(shared->Join(std::make_shared<SharingClient>()));  // who has room
  EXPECT_EQ(drained_, 2);
  fast->Drain();
  EXPECT_FALSE(shared->congested());
  shared->Write("7890");
  shared->EndStream(false);
  EXPECT_EQ(fast->answer(), "123456xxxxxx7890");
  EXPECT_TRUE(fast->ended());
  EXPECT_EQ(slow->answer(), "1234");
  std::weak_ptr<SharedExchange> alive = shared;
  shared.reset();  // the work is over
  ASSERT_FALSE(alive.expired());
  slow->Drain();
  for (int i = 0; i < 4 && !slow->ended(); ++i) slow->Drain();
  EXPECT_EQ(slow->answer(), "123456xxxxxx7890");
  EXPECT_TRUE(slow->ended());
  EXPECT_TRUE(alive.expired());
  EXPECT_EQ(gone_, 0);
}

TEST_F(SharedExchangeTest, WhoStopsReadingBehindTheEndHoldsNothingWhenItLeaves) {
  const auto slow = std::make_shared<SharingClient>(1);
  auto shared = Begin(slow);
  Work(*shared);
  shared->StartStream("text/event-stream");
  shared->Write("12");
  shared->Write("34");
  shared->EndStream(false);
  const std::weak_ptr<SharedExchange> alive = shared;
  shared.reset();
  ASSERT_FALSE(alive.expired());
  slow->Leave();
  EXPECT_TRUE(alive.expired());
  EXPECT_EQ(gone_, 0);
  EXPECT_THAT(finished_, ::testing::ElementsAre("1234"));
}

TEST_F(SharedExchangeTest, TheWorkEndsWithItsLastClient) {
  const auto first = std::make_shared<SharingClient>(), second = std::make_shared<SharingClient>();
  const auto shared = Begin(first);
  ASSERT_TRUE(shared->Join(second));
  Work(*shared);
  shared->StartStream("text/event-stream");
  shared->Write("ab");
  first->Leave();
  EXPECT_EQ(gone_, 0);
  shared->Write("cd");
  EXPECT_EQ(second->answer(), "abcd");
  second->Leave();
  EXPECT_EQ(gone_, 1);
  EXPECT_FALSE(shared->Join(std::make_shared<SharingClient>()));
  shared->EndStream(true);
  EXPECT_THAT(finished_, ::testing::ElementsAre("none"));
}

TEST_F(SharedExchangeTest, AnErrorEndsItForAllAndIsNotKept) {
  const auto first = std::make_shared<SharingClient>(), second = std::make_shared<SharingClient>();
  const auto shared = Begin(first);
  ASSERT_TRUE(shared->Join(second));
  shared->StartStream("text/event-stream");
  shared->Write("a");
  shared->EndStream(true);
  EXPECT_TRUE(first->closed());
  EXPECT_TRUE(second->closed());
  EXPECT_THAT(finished_, ::testing::ElementsAre("none"));
}

TEST_F(SharedExchangeTest, AStreamThatIsTooLongIsReadToItsEndByThoseWhoHaveJoined) {
  const auto first = std::make_shared<SharingClient>(), second = std::make_shared<SharingClient>(2);
  const auto shared = Begin(first, 4);
  ASSERT_TRUE(shared->Join(second));
  shared->StartStream("text/event-stream");
  shared->Write("123");
  EXPECT_THAT(finished_, IsEmpty());
  shared->Write("45");
  EXPECT_THAT(finished_, ::testing::ElementsAre("none"));
  EXPECT_FALSE(shared->Join(std::make_shared<SharingClient>()));
  EXPECT_TRUE(shared->congested());  // the slowest sets the pace now
  shared->Write("67");
  second->Drain();
  shared->Write("89");
  shared->EndStream(false);
  second->Drain();
  EXPECT_EQ(first->answer(), "123456789");
  EXPECT_EQ(second->answer(), "123456789");
  EXPECT_TRUE(second->ended());
  EXPECT_THAT(finished_, SizeIs(1));
}

TEST_F(SharedExchangeTest, AllTogetherHoldNoMoreThanTheirShare) {
  bytes_.most = 0;
  const auto one = Begin(std::make_shared<SharingClient>(), 4);  // 32 for all
  std::vector<std::shared_ptr<SharedExchange>> others;
  for (int i = 0; i < 10; ++i) {
    others.push_back(Begin(std::make_shared<SharingClient>(), 4));
    others.back()->StartStream("text/event-stream");
    others.back()->Write("1234");
  }
  EXPECT_THAT(finished_, SizeIs(2));
  EXPECT_LE(bytes_.held, 32);
  others.clear();
  EXPECT_EQ(bytes_.held, 0);
  one->StartStream("text/event-stream");
  one->Write("1234");
  one->EndStream(false);
  EXPECT_EQ(finished_.back(), "1234");
}

TEST_F(SharedExchangeTest, WhoDrainsBeforeTheWorkWatchesLetsItGoOn) {
  const auto first = std::make_shared<SharingClient>(1);
  const auto shared = Begin(first);
  shared->StartStream("text/event-stream");
  shared->Write("12");
  ASSERT_TRUE(shared->congested());
  first->Drain();
  EXPECT_EQ(drained_, 0);
  Work(*shared);
  EXPECT_EQ(drained_, 1);
}

TEST_F(SharedExchangeTest, ThatIsDroppedTellsItsClients) {
  auto shared = Begin(std::make_shared<SharingClient>());
  shared.reset();
  EXPECT_THAT(finished_, ::testing::ElementsAre("none"));
}

TEST_F(SharedExchangeTest, EveryoneGetsAllInOrderWhoeverComesAndGoes) {
  std::string whole;
  for (int i = 0; i < 3000; ++i) whole += std::to_string(i) + ",";
  for (unsigned seed = 0; seed < 20; ++seed) {
    const auto steady = std::make_shared<SharingClient>();
    const auto shared = Begin(steady);
    Work(*shared);
    std::vector<std::shared_ptr<SharingClient>> clients;
    for (int i = 0; i < 12; ++i) clients.push_back(std::make_shared<SharingClient>(40 << (i % 6)));
    std::atomic<bool> over{false};
    std::thread work([&] {
      shared->StartStream("text/event-stream");
      std::minstd_rand random(seed);
      for (size_t at = 0; at < whole.size();) {
        const size_t size = std::min<size_t>(1 + random() % 90, whole.size() - at);
        shared->Write(std::string_view(whole).substr(at, size));
        shared->congested();
        at += size;
      }
      shared->EndStream(false);
    });
    std::thread drain([&] {
      while (!over) {
        for (const auto& client : clients) client->Drain();
      }
    });
    std::vector<bool> joined;
    for (size_t i = 0; i < clients.size(); ++i) {
      joined.push_back(shared->Join(clients[i]));
      if (i % 4 == 3) clients[i]->Leave();
    }
    work.join();
    const absl::Time end = absl::Now() + absl::FromChrono(kPatience);
    for (size_t i = 0; i < clients.size(); ++i) {
      while (joined[i] && i % 4 != 3 && !clients[i]->ended() && absl::Now() < end)
        std::this_thread::yield();
    }
    over = true;
    drain.join();
    EXPECT_EQ(steady->answer(), whole);
    for (size_t i = 0; i < clients.size(); ++i) {
      const std::string got = clients[i]->answer();
      if (joined[i] && i % 4 != 3) {
        EXPECT_EQ(got, whole) << seed << ", client " << i;
      } else {
        EXPECT_TRUE(whole.starts_with(got)) << seed << ", client " << i;
      }
    }
  }
}

}  // namespace
}  // namespace penstock
