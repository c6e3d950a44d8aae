#include "service/shared_limits_loop.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/thread_name.h"
#include "ledger/usage_book.h"
#include "service/ids.h"
#include "service/limits_script.h"

namespace penstock {
namespace {

constexpr absl::Duration kPatience = absl::Milliseconds(50);  // of a request, and of the socket
constexpr absl::Duration kShortPause = absl::Milliseconds(100), kLongPause = absl::Seconds(2);
constexpr absl::Duration kLease = absl::Seconds(9), kRenewal = absl::Seconds(3);
constexpr int kMaxAsks = 1024;
constexpr size_t kMaxTenants = 16384;  // that something is remembered of
constexpr size_t kMaxSent = 256;       // commands on their way
constexpr size_t kReplyNumbers = 9;
constexpr int64_t kMaxNumber = int64_t{1} << 53;  // that Redis can count to
constexpr char kEpochKey[] = "penstock:epoch";

std::string Number(int64_t value) { return absl::StrCat(value); }

/// Of durations; only windows of budgets follow the time of day.
absl::Time Monotonic() { return SystemClock::Get().Now(); }

}  // namespace

struct SharedLimitsLoop::Pending {
  std::string tenant;
  SharedRules rules;
  int64_t tokens = 0;

  std::mutex mutex;  // guards from here
  std::condition_variable changed;
  bool decided = false, abandoned = false;
  SharedDecision decision;

  /// The first decision counts. False where nobody waits any more.
  bool Decide(SharedDecision with) {
    {
      const std::lock_guard lock(mutex);
      if (abandoned) return false;
      if (decided) return true;
      decided = true;
      decision = std::move(with);
    }
    changed.notify_one();
    return true;
  }
};

struct SharedLimitsLoop::Command {
  enum What : uint8_t { kReserve, kSettle, kRenew };
  What what = kReserve;
  std::string tenant, lease, epoch;
  int64_t tokens = 0, requests = 0;
  std::shared_ptr<Pending> ask;
};

SharedLimitsLoop::SharedLimitsLoop(Options options)
    : options_(std::move(options)),
      server_(options_.usage != nullptr ? options_.usage->server_id()
                                        : absl::StrCat(absl::Hex(RandomBits()))),
      number_(absl::GetCurrentTimeNanos() / 1000),
      pause_(kShortPause),
      thread_([this] { Run(); }) {}

SharedLimitsLoop::~SharedLimitsLoop() {
  stopped_ = true;
  messages_.Close();
  thread_.join();
}

SharedDecision SharedLimitsLoop::Reserve(const std::string& tenant, const SharedRules& rules,
                                         int64_t tokens) {
  SharedDecision out;
  if (up_ && ++num_asks_ <= kMaxAsks) {
    const absl::Time began = Monotonic();
    Letter message;
    message.ask = std::make_shared<Pending>();
    const std::shared_ptr<Pending> ask = message.ask;
    ask->tenant = tenant;
    ask->rules = rules;
    ask->tokens = tokens;
    if (messages_.TryPush(message)) {
      std::unique_lock lock(ask->mutex);
      ask->changed.wait_for(lock, absl::ToChronoMilliseconds(kPatience),
                            [&] { return ask->decided; });
      ask->abandoned = !ask->decided;
      out = ask->decision;
    }
    options_.metrics.shared_seconds.Observe(absl::ToDoubleSeconds(Monotonic() - began));
  } else if (up_) {
    --num_asks_;
  }
  (out.outcome == SharedDecision::kOutage    ? options_.metrics.shared_outage
   : out.outcome == SharedDecision::kRefused ? options_.metrics.shared_refused
                                             : options_.metrics.shared_admitted)
      .Add();
  return out;
}

void SharedLimitsLoop::Tell(Change change) {
  Letter message;
  message.change = std::move(change);
  (void)messages_.TryPush(message);  // false: the server ends
}

void SharedLimitsLoop::Settle(const std::string& tenant, const SharedDecision& decision,
                              int64_t reserved, int64_t used, bool ran) {
  Change change;
  change.tenant = tenant;
  change.lease = decision.lease;
  change.epoch = decision.epoch;
  change.reserved = -reserved;
  change.used = used;
  change.tokens_back = reserved - used;
  change.requests_back = ran ? 0 : 1;
  Tell(std::move(change));
}

void SharedLimitsLoop::CountLocal(const std::string& tenant, const SharedRules& rules,
                                  int64_t reserved, std::optional<int64_t> used) {
  Change change;
  change.tenant = tenant;
  change.rules = rules;
  change.reserved = used ? -reserved : reserved;
  change.used = used.value_or(0);
  change.tokens_back = used ? reserved - *used : -reserved;
  change.requests_back = used ? 0 : -1;
  Tell(std::move(change));
}

std::optional<SharedLimitsLoop::Known> SharedLimitsLoop::LastKnown(
    const std::string& tenant) const {
  const std::lock_guard lock(known_mutex_);
  const auto it = known_.find(tenant);
  if (it == known_.end()) return std::nullopt;
  return it->second;
}

void SharedLimitsLoop::Run() {
  NameThread("limits");
  while (!stopped_) {
    const absl::Time next = connection_ == nullptr ? next_try_ : next_renewal_;
    messages_.WaitUntil(std::chrono::steady_clock::now() +
                        absl::ToChronoMilliseconds(
                            std::clamp(next - Monotonic(), absl::Milliseconds(1), kRenewal)));
    if (stopped_) break;
    if (connection_ == nullptr && Monotonic() >= next_try_) Connect();
    Work(messages_.TakeAll());
    if (connection_ != nullptr && Monotonic() >= next_renewal_) Renew();
  }
  for (Letter& message : messages_.TakeAll()) {
    if (message.ask != nullptr) message.ask->Decide({});
  }
}

void SharedLimitsLoop::Connect() {
  absl::StatusOr<std::unique_ptr<RedisConnection>> connection =
      RedisConnection::Open(options_.host, options_.port, options_.password, kPatience);
  if (!connection.ok()) return Fail(connection.status());
  absl::StatusOr<std::string> script =
      (*connection)->LoadScript(kLimitsScript, Monotonic() + kPatience);
  if (!script.ok()) return Fail(script.status());
  connection_ = *std::move(connection);
  script_ = *std::move(script);
  // Whatever it is that answers has to prove that it can do what is asked of it, and is told what
  // this server has taken, before requests depend on it.
  Renew();
  if (connection_ == nullptr) return;
  pause_ = kShortPause;
  complaint_.clear();
  options_.metrics.shared_up.Set(1);
  options_.log(false, "limits.shared: Redis answers, limits are given together");
  up_ = true;
}

void SharedLimitsLoop::Fail(const absl::Status& why) {
  if (up_.exchange(false)) ++outages_;
  options_.metrics.shared_up.Set(0);
  connection_.reset();
  next_try_ = Monotonic() + pause_;
  pause_ = std::min(pause_ * 2, kLongPause);
  if (!complaint_.empty()) return;  // said once for each outage
  complaint_ = std::string(Message(why));
  options_.log(true, absl::StrCat("limits.shared: ", complaint_, "; on_outage is in force"));
}

SharedLimitsLoop::Book& SharedLimitsLoop::BookOf(const std::string& tenant) {
  if (books_.size() >= kMaxTenants && !books_.contains(tenant)) {
    std::erase_if(books_, [&](const auto& entry) {
      const Book& book = entry.second;
      return book.leases.empty() && book.reserved == 0 && book.owed_tokens == 0 &&
             (book.rules.budget == 0 || options_.usage != nullptr);
    });
  }
  return books_[tenant];
}

/// Books change at once, so that what is told of budgets is always what this server knows last.
void SharedLimitsLoop::TakeChange(Change& change, std::vector<Command>& commands) {
  Book& book = BookOf(change.tenant);
  book.reserved += change.reserved;
  book.settled += change.used;
  if (!change.lease.empty()) {
    book.leases.erase(change.lease);
    commands.push_back({Command::kSettle, change.tenant, change.lease, change.epoch,
                        change.tokens_back, change.requests_back, nullptr});
    return;
  }
  book.rules = change.rules;
  book.owed_tokens -= change.tokens_back;
  book.owed_requests -= change.requests_back;
}

void SharedLimitsLoop::Work(std::vector<Letter> messages) {
  std::vector<Command> commands;
  for (Letter& message : messages) {
    if (message.ask != nullptr) continue;
    TakeChange(message.change, commands);
  }
  for (Letter& message : messages) {
    if (message.ask == nullptr) continue;
    --num_asks_;
    BookOf(message.ask->tenant).rules = message.ask->rules;
    commands.push_back({Command::kReserve, message.ask->tenant,
                        absl::StrCat(server_, ":", next_lease_++), epoch_, message.ask->tokens, 1,
                        message.ask});
  }
  while (!commands.empty()) {
    const size_t count = std::min(commands.size(), kMaxSent);
    const auto end = commands.begin() + static_cast<std::ptrdiff_t>(count);
    std::vector<Command> some(std::make_move_iterator(commands.begin()),
                              std::make_move_iterator(end));
    commands.erase(commands.begin(), end);
    if (connection_ != nullptr) Send(some);
    for (const Command& command : some) {  // who was decided on hears nothing more
      if (command.ask != nullptr) command.ask->Decide({});
    }
  }
}

std::vector<std::string> SharedLimitsLoop::Arguments(const Command& command, bool with_own) {
  Book& book = BookOf(command.tenant);
  const SharedRules& rules = book.rules;
  const int64_t per = std::max<int64_t>(1, absl::ToInt64Milliseconds(rules.budget_per));
  if (book.window < 0) {  // what was taken in a life before this one
    book.window = absl::ToUnixMillis(absl::Now()) / per;
    if (options_.usage != nullptr) {
      const UsageBook::Window taken = options_.usage->WindowOf(command.tenant);
      if (absl::ToUnixMillis(taken.end) == (book.window + 1) * per) book.settled += taken.used;
    }
  }
  const std::string prefix = absl::StrCat("penstock:", command.tenant);
  std::vector<std::string> out = {
      "EVALSHA", script_, "5", prefix + ":rpm", prefix + ":tpm", prefix + ":parallel",
      prefix + ":budget", kEpochKey,
      command.what == Command::kReserve  ? "reserve"
      : command.what == Command::kSettle ? "settle"
                                         : "renew",
      server_, Number(++number_),
      Number(with_own ? std::max<int64_t>(0, book.settled + book.reserved) : -1),
      Number(book.window), command.lease, Number(absl::ToInt64Milliseconds(kLease)),
      // A credit is for the epoch that the debit was made in.
      command.what == Command::kSettle ? command.epoch : epoch_,
      absl::StrCat(absl::Hex(RandomBits())), Number(rules.rpm), Number(rules.tpm),
      Number(rules.parallel), Number(rules.budget), Number(per), Number(command.tokens),
      Number(command.requests)};
  if (command.what == Command::kRenew) {
    out.insert(out.end(), book.leases.begin(), book.leases.end());
  }
  return out;
}

/// Sends all and awaits all answers. False: there is no connection any more, and whoever has heard
/// nothing hears nothing. What was numbered below what Redis has seen of this server, as after its
/// time of day was set back, is sent once more.
bool SharedLimitsLoop::Send(const std::vector<Command>& commands) {
  std::vector<Command> stale;
  if (!SendOnce(commands, &stale)) return false;
  return stale.empty() || SendOnce(stale, nullptr);
}

bool SharedLimitsLoop::SendOnce(const std::vector<Command>& commands, std::vector<Command>* stale) {
  std::set<std::string> told;
  absl::Status status;
  for (const Command& command : commands) {
    status = connection_->Append(Arguments(command, told.insert(command.tenant).second));
    if (!status.ok()) break;
  }
  const absl::Time deadline = Monotonic() + kPatience;
  for (size_t i = 0; i < commands.size() && status.ok(); ++i) {
    const absl::StatusOr<RedisConnection::Reply> reply = connection_->Read(kReplyNumbers, deadline);
    status = reply.status();
    if (status.ok() && (std::any_of(reply->numbers.begin() + 1, reply->numbers.begin() + 3,
                                    [](int64_t n) { return n < 0; }) ||
                        reply->numbers[0] < 0 || reply->numbers[0] > 2 ||
                        reply->numbers[8] > kMaxNumber || reply->text.empty()))
      status = absl::UnavailableError("redis: an answer of a wrong form");
    if (!status.ok()) break;
    TakeReply(commands[i], *reply);
    if (reply->numbers[0] == 2 && stale != nullptr) stale->push_back(commands[i]);
  }
  if (!status.ok()) Fail(status);
  return status.ok();
}

void SharedLimitsLoop::TakeReply(const Command& command, const RedisConnection::Reply& reply) {
  const std::vector<int64_t>& n = reply.numbers;
  Book& book = BookOf(command.tenant);
  epoch_ = reply.text;
  number_ = std::max(number_, n[8]);
  if (n[6] != book.window) {  // another window has begun, and with it the account
    book.window = n[6];
    book.settled = 0;
    book.begun = false;
  }
  if (options_.usage != nullptr && book.rules.budget > 0 && !std::exchange(book.begun, true)) {
    const int64_t per = std::max<int64_t>(1, absl::ToInt64Milliseconds(book.rules.budget_per));
    options_.usage->BeginWindow(command.tenant, absl::FromUnixMillis((n[6] + 1) * per));
  }
  {
    const std::lock_guard lock(known_mutex_);
    if (known_.size() >= kMaxTenants && !known_.contains(command.tenant)) known_.clear();
    known_[command.tenant] = {n[3], n[4], n[5], Monotonic()};
  }
  if (command.what == Command::kSettle && command.lease.empty() && n[0] == 1) {
    book.owed_tokens += command.tokens;  // negative, as a rule
    book.owed_requests += command.requests;
  }
  if (command.what != Command::kReserve) return;
  SharedDecision decision;
  if (n[0] == 2) return;  // as if it had not answered
  decision.outcome = n[0] == 1 ? SharedDecision::kAdmitted : SharedDecision::kRefused;
  decision.limit = static_cast<SharedDecision::Limit>(std::min<int64_t>(n[1], 4));
  decision.wait = absl::Milliseconds(n[2]);
  decision.requests_left = n[3];
  decision.tokens_left = n[4];
  if (n[0] == 1) {
    decision.lease = command.lease;
    decision.epoch = reply.text;
    book.reserved += command.tokens;
    if (book.rules.parallel > 0) book.leases.insert(command.lease);
  }
  if (command.ask->Decide(decision) || n[0] != 1) return;
  // Whoever asked has gone without it.
  Settle(command.tenant, decision, command.tokens, 0, /*ran=*/false);
}

/// Leases that are to live on, what was taken without Redis, and, where it has forgotten, the rest.
void SharedLimitsLoop::Renew() {
  next_renewal_ = Monotonic() + kRenewal;
  std::vector<Command> commands;
  const std::string epoch_before = epoch_;
  // A tenant that there cannot be, to see whether Redis works and remembers.
  if (!Send({{Command::kRenew, "", "", "", 0, 0, nullptr}})) return;
  const bool forgot = epoch_ != epoch_before;
  for (auto& [tenant, book] : books_) {
    if (book.owed_tokens != 0 || book.owed_requests != 0)
      commands.push_back(
          {Command::kSettle, tenant, "", epoch_, -book.owed_tokens, -book.owed_requests, nullptr});
    if (!book.leases.empty() || (forgot && book.rules.budget > 0))
      commands.push_back({Command::kRenew, tenant, "", "", 0, 0, nullptr});
  }
  while (!commands.empty() && connection_ != nullptr) {
    const size_t count = std::min(commands.size(), kMaxSent);
    const auto end = commands.begin() + static_cast<std::ptrdiff_t>(count);
    if (!Send({commands.begin(), end})) return;
    commands.erase(commands.begin(), end);
  }
}

}  // namespace penstock
