#include "server/thread_frames.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <utility>

#include "absl/debugging/symbolize.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace penstock {
namespace {

constexpr int kMostFrames = 48;
constexpr int kOwnFrames = 2;  // the handler's, and the kernel's call of it
constexpr size_t kLongestName = 120;
constexpr absl::Duration kPatience = absl::Seconds(2);
constexpr absl::Duration kThreadPatience = absl::Milliseconds(100);

std::atomic<pid_t> g_wanted{0};  // who is to write g_frames; 0: nobody
std::atomic<int> g_count{-1};    // of g_frames; -1: not written
std::array<void*, kMostFrames> g_frames;

/// On the thread that is asked. One that answers too late finds that it is not wanted any more.
void OnAsked(int) {
  auto self = static_cast<pid_t>(syscall(SYS_gettid));
  if (!g_wanted.compare_exchange_strong(self, 0)) return;
  g_count.store(backtrace(g_frames.data(), kMostFrames), std::memory_order_release);
}

/// False: it did not answer before `end`.
bool AskThread(pid_t thread, absl::Time end) {
  g_count.store(-1);
  g_wanted.store(thread);
  if (syscall(SYS_tgkill, getpid(), thread, SIGURG) != 0) {
    g_wanted.store(0);
    return false;
  }
  const absl::Time soon = std::min(end, absl::Now() + kThreadPatience);
  while (g_count.load(std::memory_order_acquire) < 0) {
    if (absl::Now() >= soon) {
      pid_t expected = thread;
      if (g_wanted.compare_exchange_strong(expected, 0)) return false;
      if (absl::Now() >= end) return false;  // it has begun to write, and does not end
    }
    absl::SleepFor(absl::Microseconds(100));
  }
  return true;
}

std::string NameOf(void* address) {
  std::array<char, 512> name;
  // A return address is behind the call, perhaps behind the function.
  void* const call = static_cast<char*>(address) - 1;
  if (absl::Symbolize(call, name.data(), name.size())) {
    std::string whole = name.data();
    if (whole.size() > kLongestName) whole.replace(kLongestName, whole.npos, "..");
    return whole;
  }
  Dl_info info = {};
  if (dladdr(call, &info) == 0 || info.dli_fname == nullptr)
    return absl::StrCat("0x", absl::Hex(reinterpret_cast<uintptr_t>(call)));
  const auto offset =
      reinterpret_cast<uintptr_t>(call) - reinterpret_cast<uintptr_t>(info.dli_fbase);
  return absl::StrCat(std::filesystem::path(info.dli_fname).filename().string(), "+0x",
                      absl::Hex(offset));
}

std::string FramesOf() {
  std::string out;
  for (int i = kOwnFrames; i < g_count.load(); ++i)
    absl::StrAppend(&out, out.empty() ? "" : " < ", NameOf(g_frames[i]));
  return out;
}

std::string FirstLine(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::string StateOf(const std::filesystem::path& task) {
  const std::string stat = FirstLine(task / "stat");  // pid (name) state ...
  const size_t name_end = stat.rfind(')');
  if (name_end == stat.npos || name_end + 2 >= stat.size()) return "?";
  const std::string where = FirstLine(task / "wchan");
  return absl::StrCat(stat.substr(name_end + 2, 1), where.empty() || where == "0" ? "" : " ",
                      where == "0" ? "" : where);
}

}  // namespace

std::vector<StandingThreads> DescribeThreads() {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  void* first = nullptr;
  backtrace(&first, 1);  // loads what it needs, which no handler may
  struct sigaction asked = {}, before = {};
  asked.sa_handler = OnAsked;
  asked.sa_flags = SA_RESTART;
  sigaction(SIGURG, &asked, &before);
  const absl::Time end = absl::Now() + kPatience;
  std::map<std::pair<std::string, std::string>, std::string> by_place;
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", error)) {
    const std::string id = task.path().filename().string();
    const std::string state = StateOf(task.path());  // as it is before it is asked
    pid_t thread = 0;
    const bool answered = absl::SimpleAtoi(id, &thread) && AskThread(thread, end);
    std::string& threads = by_place[{answered ? FramesOf() : "", state}];
    absl::StrAppend(&threads, threads.empty() ? "" : ", ", id, " ",
                    FirstLine(task.path() / "comm"));
  }
  sigaction(SIGURG, &before, nullptr);
  std::vector<StandingThreads> out;
  for (auto& [place, threads] : by_place) out.push_back({threads, place.second, place.first});
  return out;
}

}  // namespace penstock
