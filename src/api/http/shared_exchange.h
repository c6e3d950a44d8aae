// The exchange of one request that several clients wait for.
// Owns what was answered so far, of a stream from its start. Must not know endpoints or keys.
// Threads: thread-safe.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/http/message.h"

namespace penstock {

/// What running streams of a server hold of their answers.
struct SharedBytes {
  std::atomic<size_t> held{0};
  std::atomic<size_t> most{0};  // more are not held for whoever comes later
};

/// Each client gets the whole answer at its own pace, whenever it came; the one that reads fastest
/// sets the pace of the work, or the slowest where the answer is too long to be held whole.
/// Cancelled when all of them are gone.
class SharedExchange final : public HttpExchange,
                             public std::enable_shared_from_this<SharedExchange> {
 public:
  /// Called once: `answer` is whole, or null where there is none that could be repeated (dropped,
  /// abandoned, ended by an error, too long to be held). Nobody joins afterwards.
  /// Not under a lock of the exchange's.
  using FinishFn = std::function<void(const SharedExchange* who, const HttpResponse* answer)>;

  /// The request is that of `first`. `bytes` outlives `finish`; an eighth of the most is one's.
  SharedExchange(std::shared_ptr<HttpExchange> first, SharedBytes* bytes, FinishFn finish);
  ~SharedExchange() override;
  /// Before the work begins.
  void Begin();
  /// False where it is over already: the request has to begin anew.
  bool Join(const std::shared_ptr<HttpExchange>& client);

  using HttpExchange::StartStream;
  HttpRequest& request() override { return first_->request(); }
  void Respond(HttpResponse response) override;
  void AddHeader(std::string name, std::string value) override;
  void StartStream(std::string_view content_type, const HttpHeaders& headers) override;
  void Write(std::string_view bytes) override;
  void EndStream(bool close) override;
  bool started() const override;
  bool congested() override;
  void Watch(std::function<void(CancelReason)> gone, std::function<void()> drained) override;

 private:
  struct Member {
    std::shared_ptr<HttpExchange> exchange;
    size_t sent = 0;       // bytes of the stream
    bool watched = false;  // gets nothing before: that it has drained would not be heard
    bool full = false;     // until it has drained
  };
  using Members = std::vector<Member>;

  void WatchMember(HttpExchange& member);
  void Leave(const HttpExchange* who, CancelReason reason);
  void Drained(const HttpExchange* who);
  // With the lock held.
  Member* Find(const HttpExchange* who);
  void Feed(Member& member);
  void FeedAll(Members& ended);
  bool MustWait() const;
  /// What is to be called then, without the lock; null: it does not wait, or has to wait on.
  std::function<void()> WorkMayGoOn();

  const std::shared_ptr<HttpExchange> first_;  // whose request is answered
  SharedBytes* const bytes_;
  const FinishFn finish_;
  mutable std::mutex mutex_;  // guards from here
  Members members_;
  HttpHeaders headers_;                   // further ones of the answer
  std::optional<HttpResponse> response_;  // which is whole
  bool streaming_ = false;
  HttpResponse stream_;    // type and headers; the body from `forgotten_` on
  size_t forgotten_ = 0;   // bytes that nobody needs any more
  bool too_long_ = false;  // to be repeated: nobody joins, and what all have is forgotten
  bool ended_ = false;     // of a stream
  bool close_ = false;
  bool abandoned_ = false;
  bool told_ = false;        // `finish_`
  bool work_waits_ = false;  // for anyone to drain
  std::function<void(CancelReason)> gone_;
  std::function<void()> drained_;
  std::shared_ptr<SharedExchange> self_;  // while members read on behind the end of the work
};

}  // namespace penstock
