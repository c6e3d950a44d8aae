#include "api/http/shared_exchange.h"

#include <algorithm>
#include <utility>

namespace penstock {
namespace {

constexpr size_t kMostShare = 8;  // of all exchanges' bytes that one may hold
constexpr size_t kPieceBytes = size_t{64}
                               << 10;  // between two looks at whether a client has enough

}  // namespace

SharedExchange::SharedExchange(std::shared_ptr<HttpExchange> first, SharedBytes* bytes,
                               FinishFn finish)
    : first_(std::move(first)), bytes_(bytes), finish_(std::move(finish)) {
  members_.push_back({first_, 0, /*watched=*/true, false});
}

SharedExchange::~SharedExchange() {
  // Its clients hear that it was dropped.
  if (!told_) finish_(this, nullptr);
  bytes_->held -= stream_.body.size();
}

void SharedExchange::Begin() { WatchMember(*first_); }

bool SharedExchange::Join(const std::shared_ptr<HttpExchange>& client) {
  std::optional<HttpResponse> answer;
  {
    std::lock_guard lock(mutex_);
    if (abandoned_ || ended_ || too_long_) return false;
    if (response_) {
      answer = response_;
    } else {
      if (streaming_) client->StartStream(stream_.content_type, stream_.headers);
      members_.push_back({client});
    }
  }
  if (answer) {
    client->Respond(*std::move(answer));
    return true;
  }
  WatchMember(*client);
  Members ended;  // destroyed outside the lock
  std::shared_ptr<SharedExchange> self;
  std::function<void()> drained;
  {
    std::lock_guard lock(mutex_);
    if (Member* const member = Find(client.get()); member != nullptr) member->watched = true;
    FeedAll(ended);
    if (members_.empty()) self.swap(self_);
    drained = WorkMayGoOn();
  }
  if (drained) drained();
  return true;
}

void SharedExchange::WatchMember(HttpExchange& member) {
  const auto weak = weak_from_this();
  member.Watch(
      [weak, who = &member](CancelReason reason) {
        if (const auto self = weak.lock()) self->Leave(who, reason);
      },
      [weak, who = &member] {
        if (const auto self = weak.lock()) self->Drained(who);
      });
}

SharedExchange::Member* SharedExchange::Find(const HttpExchange* who) {
  const auto it = std::find_if(members_.begin(), members_.end(),
                               [who](const Member& m) { return m.exchange.get() == who; });
  return it == members_.end() ? nullptr : &*it;
}

bool SharedExchange::MustWait() const {
  const auto full = [](const Member& m) { return m.full; };
  // What is not kept whole is held for the slowest, which then sets the pace.
  if (too_long_) return std::any_of(members_.begin(), members_.end(), full);
  return !members_.empty() && std::all_of(members_.begin(), members_.end(), full);
}

std::function<void()> SharedExchange::WorkMayGoOn() {
  if (!work_waits_ || MustWait() || !drained_) return nullptr;
  work_waits_ = false;
  return drained_;
}

void SharedExchange::Feed(Member& member) {
  const std::string& bytes = stream_.body;
  while (member.watched && !member.full && member.sent < forgotten_ + bytes.size()) {
    const std::string_view piece =
        std::string_view(bytes).substr(member.sent - forgotten_, kPieceBytes);
    member.exchange->Write(piece);
    member.sent += piece.size();
    member.full = member.exchange->congested();
  }
}

/// `ended` gets the members that have all of it.
void SharedExchange::FeedAll(Members& ended) {
  if (!streaming_) return;
  const size_t all = forgotten_ + stream_.body.size();
  size_t least = all;
  for (Member& member : members_) {
    Feed(member);
    least = std::min(least, member.sent);
  }
  if (ended_) {
    for (auto it = members_.begin(); it != members_.end();) {
      if (it->sent < all || !it->watched) {
        ++it;
        continue;
      }
      it->exchange->EndStream(close_);
      ended.push_back(std::move(*it));
      it = members_.erase(it);
    }
  }
  if (too_long_) {
    stream_.body.erase(0, least - forgotten_);
    bytes_->held -= least - forgotten_;
    forgotten_ = least;
  }
}

void SharedExchange::Respond(HttpResponse response) {
  Members members;
  std::function<void(CancelReason)> gone;  // both destroyed outside the lock
  std::function<void()> drained;
  {
    std::lock_guard lock(mutex_);
    if (response_ || streaming_) return;
    for (const auto& header : headers_) response.headers.push_back(header);
    response_ = response;
    told_ = true;
    members.swap(members_);
    gone.swap(gone_);
    drained.swap(drained_);
  }
  finish_(this, response.status == 200 ? &response : nullptr);
  for (const Member& member : members) member.exchange->Respond(response);
}

void SharedExchange::AddHeader(std::string name, std::string value) {
  std::lock_guard lock(mutex_);
  headers_.emplace_back(std::move(name), std::move(value));
}

void SharedExchange::StartStream(std::string_view content_type, const HttpHeaders& headers) {
  std::lock_guard lock(mutex_);
  if (response_ || streaming_) return;
  streaming_ = true;
  stream_.content_type = std::string(content_type);
  stream_.headers = headers;
  stream_.headers.insert(stream_.headers.end(), headers_.begin(), headers_.end());
  for (const Member& member : members_) member.exchange->StartStream(content_type, stream_.headers);
}

void SharedExchange::Write(std::string_view bytes) {
  Members ended;
  {
    std::lock_guard lock(mutex_);
    if (!streaming_ || ended_) return;
    stream_.body += bytes;
    const size_t held = bytes_->held += bytes.size();
    too_long_ = too_long_ || stream_.body.size() > bytes_->most / kMostShare || held > bytes_->most;
    FeedAll(ended);
    if (!too_long_ || std::exchange(told_, true)) return;
  }
  finish_(this, nullptr);
}

void SharedExchange::EndStream(bool close) {
  Members ended;
  std::function<void(CancelReason)> gone;
  std::function<void()> drained;
  std::optional<HttpResponse> whole;
  {
    std::lock_guard lock(mutex_);
    if (!streaming_ || ended_) return;
    ended_ = true;
    close_ = close;
    gone.swap(gone_);
    drained.swap(drained_);
    if (!close && !told_) whole = stream_;
    FeedAll(ended);
    if (!members_.empty()) self_ = shared_from_this();
    if (std::exchange(told_, true)) return;
  }
  finish_(this, whole ? &*whole : nullptr);
}

bool SharedExchange::started() const {
  std::lock_guard lock(mutex_);
  return response_.has_value() || streaming_;
}

bool SharedExchange::congested() {
  std::lock_guard lock(mutex_);
  work_waits_ = MustWait();
  return work_waits_;
}

void SharedExchange::Watch(std::function<void(CancelReason)> gone, std::function<void()> drained) {
  std::function<void()> go_on;
  {
    std::lock_guard lock(mutex_);
    if (response_ || ended_) return;
    if (!abandoned_) {
      gone_ = std::move(gone);
      drained_ = std::move(drained);
      go_on = WorkMayGoOn();
      gone = nullptr;
    }
  }
  if (gone) gone(CancelReason::kDisconnect);
  if (go_on) go_on();
}

void SharedExchange::Drained(const HttpExchange* who) {
  Members ended;
  std::shared_ptr<SharedExchange> self;
  std::function<void()> drained;
  {
    std::lock_guard lock(mutex_);
    Member* const member = Find(who);
    if (member == nullptr) return;
    member->full = false;
    FeedAll(ended);
    if (members_.empty()) self.swap(self_);
    drained = WorkMayGoOn();
  }
  if (drained) drained();
}

void SharedExchange::Leave(const HttpExchange* who, CancelReason reason) {
  std::function<void(CancelReason)> gone;
  std::function<void()> drained;
  std::shared_ptr<HttpExchange> left;  // all destroyed outside the lock
  bool tell = true;
  std::shared_ptr<SharedExchange> self;
  {
    std::lock_guard lock(mutex_);
    Member* const member = Find(who);
    if (member == nullptr) return;
    left = std::move(member->exchange);
    members_.erase(members_.begin() + (member - members_.data()));
    if (!members_.empty()) return;
    self.swap(self_);
    if (response_ || ended_) return;
    abandoned_ = true;
    gone.swap(gone_);
    drained.swap(drained_);
    if (std::exchange(told_, true)) tell = false;
  }
  if (tell) finish_(this, nullptr);
  if (gone) gone(reason);
}

}  // namespace penstock
