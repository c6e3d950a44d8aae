#include "base/lost_pages.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <set>

namespace penstock {
namespace {

constexpr size_t kMostMappings = 16384;
constexpr int kExitFault = 70;

/// Read by the handler: no memory of its own but the array. `begin` is 0 of one that is free, and is
/// written last.
struct Watched {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  std::atomic<const char*> path{nullptr};
  std::atomic<LostPage> then{LostPage::kIsZeros};
  std::atomic<bool> lost{false};
};

std::array<Watched, kMostMappings> watched_mappings;
std::atomic<size_t> num_slots{0};  // that have ever been in use
std::mutex watched_mutex;          // of all but the handler, which takes none
struct sigaction handler_before;
size_t bytes_of_page;

Watched* WatchedAt(uintptr_t address) {
  for (size_t i = 0; i < num_slots.load(std::memory_order_acquire); ++i) {
    Watched& w = watched_mappings[i];
    const uintptr_t begin = w.begin.load(std::memory_order_acquire);
    if (begin != 0 && address >= begin && address < w.end.load(std::memory_order_acquire) &&
        w.begin.load(std::memory_order_acquire) == begin) {  // not another by now
      return &w;
    }
  }
  return nullptr;
}

/// That begins at `data`; the mutex is held.
Watched* WatchedOf(const void* data) {
  for (size_t i = 0; i < num_slots.load(std::memory_order_relaxed); ++i) {
    Watched& w = watched_mappings[i];
    if (w.begin.load(std::memory_order_relaxed) == reinterpret_cast<uintptr_t>(data)) return &w;
  }
  return nullptr;
}

void Say(const char* text) {
  [[maybe_unused]] const ssize_t said = ::write(STDERR_FILENO, text, std::strlen(text));
}

void OnLostPage(int signal, siginfo_t* info, void* context) {
  // Of a signal that somebody sent there is no address.
  Watched* w = info->si_code > 0 ? WatchedAt(reinterpret_cast<uintptr_t>(info->si_addr)) : nullptr;
  if (w == nullptr) {  // not ours: whoever was asked before, or the end
    if ((handler_before.sa_flags & SA_SIGINFO) != 0) {
      handler_before.sa_sigaction(signal, info, context);
    } else {
      ::signal(SIGBUS, SIG_DFL);
      ::raise(SIGBUS);  // when this returns
    }
    return;
  }
  const uintptr_t page = reinterpret_cast<uintptr_t>(info->si_addr) & ~(bytes_of_page - 1);
  w->lost.store(true, std::memory_order_release);
  // Not mmap, which sanitizers take for a write of the page.
  if (w->then.load() == LostPage::kIsZeros &&
      ::syscall(SYS_mmap, page, bytes_of_page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                -1, 0) == static_cast<int64_t>(page)) {
    return;
  }
  Say("penstock: ");
  Say(w->path.load());
  Say(": bytes that are in use are gone: the file was cut while it was mapped, or its disk or "
      "network does not give them (dmesg says which); start again\n");
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
  static auto& paths =
      *new std::set<std::string>;  // for good: the handler may read one at any time
  std::call_once(once, HandleLostPages);
  const std::lock_guard lock(watched_mutex);
  Watched* free = WatchedOf(nullptr);
  const size_t slots = num_slots.load(std::memory_order_relaxed);
  if (free == nullptr && slots == kMostMappings) return;
  if (free == nullptr) free = &watched_mappings[slots];
  free->path.store(paths.insert(path).first->c_str());
  free->then.store(then);
  free->lost.store(false);
  free->end.store(reinterpret_cast<uintptr_t>(data) + bytes, std::memory_order_release);
  free->begin.store(reinterpret_cast<uintptr_t>(data), std::memory_order_release);
  if (free == &watched_mappings[slots]) num_slots.store(slots + 1, std::memory_order_release);
}

void SetLostPage(const void* data, LostPage then) {
  const std::lock_guard lock(watched_mutex);
  if (Watched* w = WatchedOf(data)) w->then.store(then);
}

void UnwatchMapping(const void* data) {
  const std::lock_guard lock(watched_mutex);
  if (Watched* w = WatchedOf(data)) w->begin.store(0, std::memory_order_release);
}

bool HasLostPages(const void* data) {
  const std::lock_guard lock(watched_mutex);
  const Watched* w = WatchedOf(data);
  return w != nullptr && w->lost.load(std::memory_order_acquire);
}

}  // namespace penstock
