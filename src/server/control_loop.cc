#include "server/control_loop.h"

#include <poll.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <utility>

#include "base/clock.h"

namespace penstock {
namespace {

constexpr absl::Duration kSettle = absl::Milliseconds(20);
constexpr uint32_t kChanges = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_ATTRIB;

sigset_t ControlSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  return set;
}

}  // namespace

ControlLoop::ControlLoop() {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error of whoever writes it
  const sigset_t set = ControlSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signals_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  inotify_ = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
}

ControlLoop::~ControlLoop() {
  if (signals_ >= 0) close(signals_);
  if (inotify_ >= 0) close(inotify_);
}

std::vector<std::string> ControlLoop::Watch(const std::set<std::string>& files) {
  for (const int watch : watches_) inotify_rm_watch(inotify_, watch);
  watches_.clear();
  FileStates before = std::move(seen_);
  seen_.clear();
  std::set<std::string> folders;
  for (const std::string& file : files) {
    const auto known = before.find(file);
    seen_[file] = known == before.end() ? StateOf(file) : known->second;
    const std::string folder = std::filesystem::path(file).parent_path().string();
    folders.insert(folder.empty() ? "." : folder);
  }
  std::vector<std::string> failed;
  for (const std::string& folder : folders) {
    const int watch = inotify_add_watch(inotify_, folder.c_str(), kChanges);
    if (watch < 0) {
      failed.push_back(folder);
    } else {
      watches_.push_back(watch);
    }
  }
  return failed;
}

ControlLoop::FileState ControlLoop::StateOf(const std::string& file) {
  struct stat s;
  if (stat(file.c_str(), &s) != 0) return {};
  return {static_cast<int64_t>(s.st_dev), static_cast<int64_t>(s.st_ino), s.st_size,
          s.st_mtim.tv_sec, s.st_mtim.tv_nsec};
}

ControlLoop::FileStates ControlLoop::ReadEvents() {
  alignas(inotify_event) char events[4096];
  while (read(inotify_, events, sizeof events) > 0) {
  }
  return StatesNow();
}

ControlLoop::FileStates ControlLoop::StatesNow() const {
  FileStates states;
  for (const auto& [file, state] : seen_) states[file] = StateOf(file);
  return states;
}

ControlEvent ControlLoop::Wait(absl::Duration most) {
  const Clock& clock = SystemClock::Get();  // the time of day may be set meanwhile
  const absl::Time end = clock.Now() + most;
  // What has changed since the last time, seen by a watch or not: files are read before they are all watched.
  FileStates latest = StatesNow();
  absl::Time settled = latest == seen_ ? absl::InfiniteFuture() : clock.Now() + kSettle;
  while (true) {
    const bool changed = settled != absl::InfiniteFuture();
    const absl::Time until = changed ? settled : end;
    int timeout = -1;
    if (until != absl::InfiniteFuture()) {
      timeout = static_cast<int>(std::clamp<int64_t>(
          absl::ToInt64Milliseconds(absl::Ceil(until - clock.Now(), absl::Milliseconds(1))), 0,
          1 << 30));
    }
    pollfd waits[] = {{signals_, POLLIN, 0}, {inotify_, POLLIN, 0}};
    const int ready = poll(waits, 2, timeout);
    if (ready < 0) continue;  // interrupted
    signalfd_siginfo signal;
    if ((waits[0].revents & POLLIN) != 0 && read(signals_, &signal, sizeof signal) > 0)
      return signal.ssi_signo == SIGHUP   ? ControlEvent::kReload
             : signal.ssi_signo == SIGINT ? ControlEvent::kInterrupt
                                          : ControlEvent::kStop;
    if ((waits[1].revents & POLLIN) != 0) {
      FileStates now = ReadEvents();
      if (now != latest) settled = now == seen_ ? absl::InfiniteFuture() : clock.Now() + kSettle;
      latest = std::move(now);
    }
    if (clock.Now() < (settled != absl::InfiniteFuture() ? settled : end)) continue;
    if (settled == absl::InfiniteFuture()) return ControlEvent::kTimeout;
    seen_ = std::move(latest);
    return ControlEvent::kFiles;
  }
}

void ControlLoop::StopWaiting() {
  sigset_t set = ControlSignals();
  sigdelset(&set, SIGHUP);  // which must not end what is ending
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace penstock
