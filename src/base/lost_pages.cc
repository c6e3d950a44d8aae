#include "base/lost_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <mutex>

namespace penstock {
namespace {

constexpr size_t kMostMappings = 1024;
constexpr size_t kMostPath = 512;
constexpr int kExitFault = 70;

/// Read by the handler: no memory of its own but the array. `begin` is 0 of one that is free, and is
/// written last.
struct Watched {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> lost{false};
  std::atomic<LostPage> then{LostPage::kIsZeros};
  char path[kMostPath] = {};
};

std::array<Watched, kMostMappings> watched_mappings;
std::mutex watched_mutex;  // of who adds and removes; the handler takes none
struct sigaction handler_before;
size_t bytes_of_page;

Watched* WatchedAt(uintptr_t address) {
  for (Watched& w : watched_mappings) {
    const uintptr_t begin = w.begin.load(std::memory_order_acquire);
    if (begin != 0 && address >= begin && address < w.end.load(std::memory_order_relaxed))
      return &w;
  }
  return nullptr;
}

void Say(const char* text) {
  [[maybe_unused]] const ssize_t said = ::write(STDERR_FILENO, text, std::strlen(text));
}

void OnLostPage(int signal, siginfo_t* info, void* context) {
  Watched* w = WatchedAt(reinterpret_cast<uintptr_t>(info->si_addr));
  if (w == nullptr) {  // not ours: whoever was asked before, or the end
    if ((handler_before.sa_flags & SA_SIGINFO) != 0) {
      handler_before.sa_sigaction(signal, info, context);
    } else {
      ::signal(SIGBUS, SIG_DFL);
    }
    return;
  }
  const uintptr_t page = reinterpret_cast<uintptr_t>(info->si_addr) & ~(bytes_of_page - 1);
  w->lost.store(true, std::memory_order_release);
  if (w->then.load() == LostPage::kIsZeros &&
      ::mmap(reinterpret_cast<void*>(page), bytes_of_page, PROT_READ,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) {
    return;
  }
  Say("penstock: ");
  Say(w->path);
  Say(": bytes that are in use are gone: the file was cut while it was mapped; start again\n");
  ::_exit(kExitFault);
}

void HandleLostPages() {
  bytes_of_page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  struct sigaction handler = {};
  handler.sa_sigaction = OnLostPage;
  handler.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigaction(SIGBUS, &handler, &handler_before);
}

}  // namespace

void WatchMapping(const void* data, size_t bytes, const std::string& path, LostPage then) {
  static std::once_flag once;
  std::call_once(once, HandleLostPages);
  const std::lock_guard lock(watched_mutex);
  for (Watched& w : watched_mappings) {
    if (w.begin.load(std::memory_order_relaxed) != 0) continue;
    w.end.store(reinterpret_cast<uintptr_t>(data) + bytes, std::memory_order_relaxed);
    w.lost.store(false, std::memory_order_relaxed);
    w.then.store(then);
    const size_t length = std::min(path.size(), kMostPath - 1);
    std::memcpy(w.path, path.data(), length);
    w.path[length] = 0;
    w.begin.store(reinterpret_cast<uintptr_t>(data), std::memory_order_release);
    return;
  }
}

void SetLostPage(const void* data, LostPage then) {
  if (Watched* w = WatchedAt(reinterpret_cast<uintptr_t>(data))) w->then.store(then);
}

void UnwatchMapping(const void* data) {
  const std::lock_guard lock(watched_mutex);
  for (Watched& w : watched_mappings) {
    if (w.begin.load(std::memory_order_relaxed) == reinterpret_cast<uintptr_t>(data))
      w.begin.store(0, std::memory_order_release);
  }
}

bool HasLostPages(const void* data) {
  const Watched* w = WatchedAt(reinterpret_cast<uintptr_t>(data));
  return w != nullptr && w->lost.load(std::memory_order_acquire);
}

}  // namespace penstock
