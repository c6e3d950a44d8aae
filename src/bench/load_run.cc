#include "bench/load_run.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <queue>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/thread_cpu.h"
#include "bench/answer_reader.h"
#include "bench/http_stream.h"
#include "bench/workload.h"

namespace penstock {
namespace {

using SteadyClock = std::chrono::steady_clock;
using Messages = nlohmann::json;

constexpr double kProgressSeconds = 0.2;
constexpr double kBusyShare = 0.9;      // of a core: the generator had little time left
constexpr double kLateSeconds = 0.02;   // that requests of an open loop may leave late
constexpr double kWaitOfRequest = 0.5;  // then most that is measured is the generator's own wait
constexpr double kWaitOfRun = 0.5;
constexpr double kWaitOfPiece = 0.1;
constexpr double kRaceSeconds = 0.005;  // in which a kept connection's end may cross a request
constexpr size_t kShownBytes = 300;     // of a failed answer
constexpr int kMostStarts = 64;         // before sockets, progress and the run's time are looked at

double LoadNow() {
  return std::chrono::duration<double>(SteadyClock::now().time_since_epoch()).count();
}

/// How long the calling thread has waited for a processor; none where the kernel does not count it.
std::optional<absl::Duration> ThreadQueueTime() {
  int64_t computed = 0, waited = 0;  // nanoseconds
  if (!(std::ifstream("/proc/thread-self/schedstat") >> computed >> waited) || computed == 0)
    return std::nullopt;
  return absl::Nanoseconds(waited);
}

/// Who asks, one question after the other, in a closed loop.
struct User {
  Messages messages = Messages::array();
  int32_t turn = 0;
};

struct Client {
  std::unique_ptr<TargetConnection> connection;
  bool busy = false;
  bool reused = false;  // the connection has carried a request before this one
  bool heard = false;   // something of the answer has come
  int64_t ticket = 0;   // of the request, for time-outs
  User* user = nullptr;
  std::string out;
  size_t sent = 0;
  double sent_at = 0;  // the last of it, in seconds since the run began
  HttpStream http;
  AnswerReader answer;
  // Seconds since the run began.
  double due = 0, first = -1, last = 0;
  std::vector<double> gaps;
};

template <class T>
using Earliest = std::priority_queue<std::pair<double, T>, std::vector<std::pair<double, T>>,
                                     std::greater<std::pair<double, T>>>;

class LoadRun {
 public:
  LoadRun(const Scenario& scenario, const Target& target,
          const std::function<void(const RunProgress&)>& progress)
      : scenario_(scenario), target_(target), progress_(progress) {}

  absl::StatusOr<LoadResult> Run() {
    ASSIGN_OR_RETURN(workload_, Workload::Open(scenario_));
    ASSIGN_OR_RETURN(address_, ResolveTarget(target_));
    model_ = scenario_.model;
    if (model_.empty()) {
      double patience = scenario_.timeout_seconds;
      if (scenario_.request_timeout > 0) patience = std::min(patience, scenario_.request_timeout);
      ASSIGN_OR_RETURN(model_, FirstModelOf(target_, address_, absl::Seconds(patience)));
    }
    epoll_ = std::make_unique<Socket>(epoll_create1(EPOLL_CLOEXEC));
    if (scenario_.open_loop()) {
      planned_ = workload_->Next();
    } else {
      users_.resize(std::min<int64_t>(scenario_.concurrency, scenario_.requests));
      for (User& user : users_) thinking_.emplace(0, &user);
    }
    const ProcessUse before = UseOfProcess(target_.pid);
    const std::optional<absl::Duration> queued_before = ThreadQueueTime();
    const absl::Duration own_before = ThreadCpuTime();
    begin_ = LoadNow();
    Drive();
    result_.seconds = LoadNow() - begin_;
    const double own_seconds = absl::ToDoubleSeconds(ThreadCpuTime() - own_before);
    const ProcessUse after = UseOfProcess(target_.pid);
    if (before.cpu_seconds >= 0 && after.cpu_seconds >= 0) {
      result_.server = {after.cpu_seconds - before.cpu_seconds, after.rss_bytes};
    }
    GeneratorWaits waits;
    const std::optional<absl::Duration> queued = ThreadQueueTime();
    if (queued.has_value() && queued_before.has_value())
      waits.seconds = absl::ToDoubleSeconds(*queued - *queued_before);
    waits.wakes = num_wakes_;
    waits.per_piece = result_.itl.mean();
    waits.per_request = result_.e2e.mean();
    result_.generator =
        JudgeGenerator(own_seconds, result_.seconds, result_.pieces, lateness_, waits);
    if (result_.failures.contains(kGeneratorFault)) result_.generator.bottleneck = true;
    if (workload_->trace_faults() != nullptr) result_.trace_faults = *workload_->trace_faults();
    return std::move(result_);
  }

 private:
  double Since() const { return LoadNow() - begin_; }

  void Drive() {
    std::vector<epoll_event> events(256);
    double shown = 0;
    while (true) {
      StartDue();
      if (num_active_ == 0 && !MoreToCome()) return;
      const double now = Since();
      if (now > scenario_.timeout_seconds) {
        EndRun();
        return;
      }
      if (progress_ && now - shown >= kProgressSeconds) {
        shown = now;
        progress_(
            {num_done_, result_.num_failed, scenario_.requests, num_active_, result_.pieces, now});
      }
      EndHung(now);
      const double asleep = Since();
      const auto wait = static_cast<int64_t>((NextWake(asleep) - asleep) * 1e9);
      const timespec until{0, std::min<int64_t>(wait, 999999999)};
      const int n = epoll_pwait2(epoll_->fd(), events.data(), static_cast<int>(events.size()),
                                 &until, nullptr);
      ++num_wakes_;
      for (int i = 0; i < n; ++i) {
        Client& client = *static_cast<Client*>(events[i].data.ptr);
        Send(client);  // TLS may have to read before it can write
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) Receive(client);
      }
    }
  }

  bool MoreToCome() const {
    return scenario_.open_loop() ? planned_.has_value()
                                 : num_started_ < scenario_.requests && !thinking_.empty();
  }

  double NextWake(double now) const {
    double next = now + kProgressSeconds;
    if (planned_.has_value()) next = std::min(next, planned_->due);
    if (!thinking_.empty() && num_started_ < scenario_.requests)
      next = std::min(next, thinking_.top().first);
    if (!deadlines_.empty()) next = std::min(next, deadlines_.top().first);
    return std::max(next, now);
  }

  /// What is due, or the first of it: the rest wakes at once.
  void StartDue() {
    int left = kMostStarts;
    while (planned_.has_value() && Since() >= planned_->due && left-- > 0) {
      Ask(*planned_, planned_->due, nullptr);
      planned_ = workload_->Next();
    }
    while (!thinking_.empty() && num_started_ < scenario_.requests &&
           Since() >= thinking_.top().first && left-- > 0) {
      const auto [due, user] = thinking_.top();
      thinking_.pop();
      const std::optional<PlannedRequest> request = workload_->Next();
      Ask(*request, due > 0 ? due : Since(), user);
    }
  }

  void Ask(const PlannedRequest& request, double due, User* user) {
    ++num_started_;
    ++num_active_;
    Client& client = IdleClient();
    client.busy = true;
    client.user = user;
    client.ticket = num_started_;
    client.due = due;
    Messages alone = Messages::array();
    const char* path = scenario_.endpoint == "chat" ? "/v1/chat/completions" : "/v1/completions";
    const std::string body =
        workload_->Body(request, model_, user == nullptr ? &alone : &user->messages);
    client.out = HttpRequestBytes(target_, "POST", path, body);
    client.sent = 0;
    client.heard = false;
    client.http.Reset();
    client.answer = AnswerReader(scenario_.stream, request.max_tokens, scenario_.ignore_eos);
    client.first = -1;
    client.gaps.clear();
    if (scenario_.open_loop()) lateness_.Add(Since() - due);
    if (scenario_.request_timeout > 0) {
      deadlines_.emplace(Since() + scenario_.request_timeout,
                         std::make_pair(client.ticket, &client));
    }
    if (client.connection != nullptr && client.connection->Ended()) client.connection.reset();
    client.reused = client.connection != nullptr;
    if (client.reused || Dial(client)) Send(client);
  }

  Client& IdleClient() {
    if (idle_.empty()) {
      clients_.push_back(std::make_unique<Client>());
      return *clients_.back();
    }
    Client& client = *idle_.back();
    idle_.pop_back();
    return client;
  }

  /// False: the request has failed.
  bool Dial(Client& client) {
    absl::StatusOr<std::unique_ptr<TargetConnection>> opened = TargetConnection::To(address_);
    if (!opened.ok()) {
      const bool own = absl::IsResourceExhausted(opened.status());
      Fail(client, own ? kGeneratorFault : "connect", Message(opened.status()));
      return false;
    }
    client.connection = *std::move(opened);
    epoll_event event{EPOLLIN | EPOLLOUT | EPOLLET, {.ptr = &client}};
    if (epoll_ctl(epoll_->fd(), EPOLL_CTL_ADD, client.connection->fd(), &event) == 0) return true;
    Fail(client, kGeneratorFault, "the kernel watches no more sockets");
    return false;
  }

  /// A server may close a kept connection just as a request leaves for it: clients then ask again
  /// on a new one (RFC 9112, section 9.3.1). So does this one where the server cannot have read the
  /// request, or the end came at once. False: it is not to be asked again.
  bool AskAgain(Client& client) {
    if (!client.busy || !client.reused || client.heard) return false;
    const bool crossed =
        client.sent < client.out.size() || client.connection->Unread() ||
        Since() - client.sent_at < std::max(kRaceSeconds, 2 * client.connection->RoundTrip());
    if (!crossed) return false;
    ++result_.asked_again;
    client.connection.reset();
    client.reused = false;
    client.sent = 0;
    if (Dial(client)) Send(client);
    return true;
  }

  void Send(Client& client) {
    while (client.connection != nullptr && client.sent < client.out.size()) {
      const ssize_t n = client.connection->Write(client.out.data() + client.sent,
                                                 client.out.size() - client.sent);
      if (n < 0 && errno == ECONNREFUSED) HangUp(client, errno);  // told once
      if (n <= 0) return;  // EAGAIN: the socket tells when; other errors show when reading
      client.sent += n;
      client.sent_at = Since();
    }
  }

  void Receive(Client& client) {
    while (client.connection != nullptr) {
      const ssize_t n = client.connection->Read(buffer_.data(), buffer_.size());
      const int error = n < 0 ? errno : 0;
      if (error == EAGAIN || error == EINTR || error == ENOTCONN) return;
      if (n <= 0) {
        if (AskAgain(client)) continue;
        if (n == 0 && client.busy && client.http.FeedEnd()) {
          NotePieces(client);
          Finish(client);
        } else {
          HangUp(client, error);
        }
        return;
      }
      if (!client.busy) {  // words that nobody asked for
        client.connection.reset();
        return;
      }
      client.heard = true;
      if (!client.http.Feed({buffer_.data(), static_cast<size_t>(n)})) {
        Fail(client, "not_http", client.http.body());
        return;
      }
      NotePieces(client);
      if (client.http.done()) Finish(client);
    }
  }

  void HangUp(Client& client, int error) {
    if (!client.busy) {
      client.connection.reset();
      return;
    }
    if (error == EPROTO) {
      Fail(client, "tls", client.connection->fault());
    } else if (error == ECONNREFUSED) {
      Fail(client, "connect", "the connection was refused");
    } else if (client.heard) {
      Fail(client, "cut", client.http.body());
    } else {
      Fail(client, "reset", "the server hung up before it answered");
    }
  }

  void NotePieces(Client& client) {
    const int pieces = client.http.head_done() && client.http.status() == 200
                           ? client.answer.Read(client.http.body(), client.http.done())
                           : 0;
    const double now = Since();
    for (int i = 0; i < pieces; ++i) {
      if (client.first < 0) {
        client.first = now;
      } else {
        client.gaps.push_back(now - client.last);
      }
      client.last = now;
    }
    result_.pieces += pieces;
  }

  void Finish(Client& client) {
    const std::string fault = client.answer.Fault(client.http.status());
    if (!fault.empty()) {
      Fail(client, fault, client.http.body());
      return;
    }
    const double end = Since();
    if (client.first < 0) client.first = end;
    const AnswerReader& answer = client.answer;
    const double ttft = client.first - client.due, e2e = end - client.due;
    const int64_t later = answer.completion_tokens() - 1;
    const double tpot = later > 0 ? (end - client.first) / static_cast<double>(later) : 0;
    result_.ttft.Add(ttft);
    result_.e2e.Add(e2e);
    if (scenario_.stream && later > 0) result_.tpot.Add(tpot);
    for (const double gap : client.gaps) result_.itl.Add(gap);
    const LatencyGoal& goal = scenario_.goal;
    const auto within = [](double value, double most) { return most <= 0 || value <= most; };
    if (within(ttft, goal.ttft) && within(tpot, goal.tpot) && within(e2e, goal.e2e))
      ++result_.num_good;
    ++result_.num_ok;
    result_.prompt_tokens += answer.prompt_tokens();
    result_.completion_tokens += answer.completion_tokens();
    result_.cached_tokens += std::max<int64_t>(0, answer.cached_tokens());
    if (client.user != nullptr && scenario_.endpoint == "chat")
      client.user->messages.push_back({{"role", "assistant"}, {"content", answer.text()}});
    if (!client.http.keep_alive()) client.connection.reset();
    Release(client, /*failed=*/false);
  }

  void Fail(Client& client, const std::string& kind, std::string_view words) {
    ++result_.num_failed;
    ++result_.failures[kind];
    if (result_.first_failure.empty())
      result_.first_failure = absl::StrCat(kind, ": ", ToAbsl(words.substr(0, kShownBytes)));
    // An answer that was whole leaves the connection usable.
    if (!client.http.done() || !client.http.keep_alive()) client.connection.reset();
    Release(client, /*failed=*/true);
  }

  void Release(Client& client, bool failed) {
    User* const user = client.user;
    if (user != nullptr) {
      if (failed || ++user->turn >= scenario_.turns) *user = User();
      thinking_.emplace(Since() + (user->turn > 0 ? workload_->ThinkTime() : 0), user);
    }
    client.http.Reset();
    client.busy = false;
    ++num_done_;
    --num_active_;
    idle_.push_back(&client);
  }

  void EndHung(double now) {
    while (!deadlines_.empty() && deadlines_.top().first <= now) {
      const auto [ticket, client] = deadlines_.top().second;
      deadlines_.pop();
      if (client->busy && client->ticket == ticket) {
        client->connection.reset();
        Fail(*client, "timeout", "no end within request_timeout");
      }
    }
  }

  /// The run's own time is over: what is in flight has hung, and nothing more is sent.
  void EndRun() {
    result_.out_of_time = true;
    for (const std::unique_ptr<Client>& client : clients_) {
      if (!client->busy) continue;
      client->connection.reset();
      Fail(*client, "timeout", "no end within timeout_seconds");
    }
  }

  const Scenario& scenario_;
  const Target& target_;
  const std::function<void(const RunProgress&)>& progress_;
  std::unique_ptr<Workload> workload_;
  std::string model_;
  TargetAddress address_;
  std::unique_ptr<Socket> epoll_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<Client*> idle_;
  std::vector<User> users_;
  Earliest<User*> thinking_;                         // when who asks next; closed loop
  std::optional<PlannedRequest> planned_;            // the next of an open loop
  Earliest<std::pair<int64_t, Client*>> deadlines_;  // of requests, by their tickets
  std::vector<char> buffer_ = std::vector<char>(65536);
  int64_t num_started_ = 0, num_active_ = 0, num_done_ = 0, num_wakes_ = 0;
  double begin_ = 0;
  Distribution lateness_;
  LoadResult result_;
};

}  // namespace

GeneratorUse JudgeGenerator(double cpu_seconds, double seconds, int64_t pieces,
                            const Distribution& lateness, const GeneratorWaits& waits) {
  GeneratorUse use;
  use.cpu_share = seconds > 0 ? cpu_seconds / seconds : 0;
  use.cpu_us_per_piece = pieces > 0 ? cpu_seconds * 1e6 / static_cast<double>(pieces) : 0;
  use.late_p99 = lateness.Quantile(0.99);
  if (waits.seconds >= 0 && waits.wakes > 0) {
    const double wait = waits.seconds / static_cast<double>(waits.wakes);
    use.wait_us = wait * 1e6;
    if (waits.per_piece > 0) use.wait_of_piece = wait / waits.per_piece;
    if (waits.per_request > 0) use.wait_of_request = wait / waits.per_request;
  }
  use.blurs_latencies = use.wait_of_piece > kWaitOfPiece || use.wait_of_request > kWaitOfPiece;
  use.bottleneck = use.cpu_share > kBusyShare || use.late_p99 > kLateSeconds ||
                   (use.wait_of_request > kWaitOfRequest && waits.seconds > kWaitOfRun * seconds);
  return use;
}

absl::StatusOr<LoadResult> RunLoad(const Scenario& scenario, const Target& target,
                                   const std::function<void(const RunProgress&)>& progress) {
  if (scenario.warmup > 0) {
    Scenario before = scenario;
    before.requests = scenario.warmup;
    before.warmup = 0;
    before.seed = ~scenario.seed;  // other prompts, so that nothing is cached
    RETURN_IF_ERROR(LoadRun(before, target, {}).Run().status());
  }
  return LoadRun(scenario, target, progress).Run();
}

}  // namespace penstock
